"""Carrying out a plan: stages side by side, steps by their keys, results into the content store.

A stage is a chain of operations on a state (layers, configuration). Each operation that makes a layer has a content
key; a result under that key is used again, one that another build is making right now is waited for, and only what is
left is done. A sandbox is started when the first RUN really has to run, so a fully cached build starts no process.

Invariants: every layer a build touches is under its lease before it is relied on; a failed or cancelled build leaves
layers and cache records of the steps it finished, and nothing else.
"""

from slipway.build.solve.report import Reporter, describe
from slipway.build.solve.solver import Solver

__all__ = ["Reporter", "Solver", "describe"]
