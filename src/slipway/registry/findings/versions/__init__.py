"""The order of versions, one module for each way of numbering: dpkg, apk, rpm, PEP 440, SemVer.

Each module has one function ``key(text)``: two versions are in the order of their keys. A key exists for every text,
also for one that is no version of that kind, so the order is total and a hostile document raises nothing; what cannot
be read sorts before everything that can, which errs on the side of *affected*. Keys of different modules are not to
be compared. Numbers are compared as text without leading zeros, so their length costs no more than reading them.
"""

from collections.abc import Callable

from slipway.registry.findings.versions import apk, dpkg, pep440, rpm, semver
from slipway.registry.findings.versions.keys import Key

Scheme = Callable[[str], Key]

SCHEMES: dict[str, Scheme] = {
    "dpkg": dpkg.key,
    "apk": apk.key,
    "rpm": rpm.key,
    "pep440": pep440.key,
    "semver": semver.key,
}


def compare(scheme: Scheme, first: str, second: str) -> int:
    """-1, 0 or 1, as ``first`` is before, level with or after ``second``."""
    one, two = scheme(first), scheme(second)
    return int(one > two) - int(one < two)


__all__ = ["SCHEMES", "Key", "Scheme", "compare"]
