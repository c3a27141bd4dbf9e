"""The composition root: which part gets which, roles, supervision, the daemon's entry.

``config`` reads the settings, ``platform`` puts the parts together, ``serve`` runs them, ``lifecycle`` starts and
stops the daemon, ``doctor`` examines the host. A newcomer who reads ``platform.py`` has seen the whole house.
"""
