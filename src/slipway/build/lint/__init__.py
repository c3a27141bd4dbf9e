"""Build checks: what is allowed in a Dockerfile and likely to be regretted. No I/O.

The rules have the names and the meaning of Docker's build checks, so ``# check=skip=…`` lines and habits carry over.
``lint`` runs those that the file does not skip; each rule is a generator of ``(location, message)``, listed in
``rules``: ``naming`` are about words, ``values`` about variables and what they come to, ``habits`` about the rest.
"""

from slipway.build.lint.findings import Finding, Subject
from slipway.build.lint.rules import RULES, lint, refuse

__all__ = ["RULES", "Finding", "Subject", "lint", "refuse"]
