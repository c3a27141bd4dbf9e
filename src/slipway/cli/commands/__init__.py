"""The commands, one module a subject; each lists its own in ``COMMANDS``."""
