"""Kernel calls, processes, files, clock and ids: what every room stands on.

Imports nothing of ours but ``slipway.errors``, and only the standard library, so that the build worker can
import it in a few milliseconds.
"""
