"""Which of OSV's ecosystems a package belongs to, and how versions are ordered there.

An ecosystem's name may go on with a release (``Debian:12``, ``Alpine:v3.19``, ``Red Hat:enterprise_linux:9::baseos``);
the part before the colon is called its base.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from slipway.registry.findings.purls import Installed
from slipway.registry.findings.versions import SCHEMES, Scheme

# The order of versions in each base. What is not here is not kept and not matched.
ORDERS = {
    "Debian": "dpkg",
    "Ubuntu": "dpkg",
    "Alpine": "apk",
    "Wolfi": "apk",
    "Chainguard": "apk",
    "AlmaLinux": "rpm",
    "Azure Linux": "rpm",
    "Mageia": "rpm",
    "Photon OS": "rpm",
    "Red Hat": "rpm",
    "Rocky Linux": "rpm",
    "SUSE": "rpm",
    "openSUSE": "rpm",
    "PyPI": "pep440",
    "npm": "semver",
}
_DEBIAN = {
    "buster": "10", "bullseye": "11", "bookworm": "12", "trixie": "13", "forky": "14", "duke": "15",
}  # fmt: skip
_UBUNTU = {"focal": "20.04", "jammy": "22.04", "noble": "24.04", "plucky": "25.04", "questing": "25.10"}
_SEPARATORS = re.compile(r"[-_.]+")


@dataclass(frozen=True, slots=True)
class Home:
    """Where a package's advisories are: in which base, for which releases' suffixes, and how versions go there."""

    base: str
    accepts: Callable[[str], bool]

    def means(self, ecosystem: str) -> bool:
        """Whether advisories for this ecosystem are for the package; those for no release in particular are for all."""
        suffix = suffix_of(ecosystem)
        return base_of(ecosystem) == self.base and (not suffix or self.accepts(suffix))

    @property
    def scheme(self) -> Scheme:
        return SCHEMES[ORDERS[self.base]]


def base_of(ecosystem: str) -> str:
    return ecosystem.partition(":")[0]


def suffix_of(ecosystem: str) -> str:
    return ecosystem.partition(":")[2]


def normalised(base: str, name: str) -> str:
    """A package's name as it is looked up: Python's are the same in any case and with any separator (PEP 503)."""
    return _SEPARATORS.sub("-", name).lower() if base == "PyPI" else name


def home(package: Installed) -> Home | str:
    """The package's ecosystem, or in words why it has none."""
    if package.kind == "pypi":
        return Home("PyPI", _none)
    if package.kind == "npm":
        return Home("npm", _none)
    if package.kind not in ("deb", "apk", "rpm"):
        return f"packages of the kind {package.kind} are not matched"
    known = _DISTRIBUTIONS.get(package.distribution)
    if known is None:
        return f"the distribution {package.distribution or '(not told)'} is not matched"
    base, accepting = known
    if accepting is None:
        return Home(base, _none)
    if not package.release:
        return f"the release of {package.distribution} is not told"
    return Home(base, accepting(package.release))


def _none(suffix: str) -> bool:
    """Rolling distributions and languages have no releases; a suffix would be another place to get packages from."""
    del suffix
    return False


def _debian(release: str) -> Callable[[str], bool]:
    series = _DEBIAN.get(release.partition("/")[0], release.partition(".")[0])
    return lambda suffix: suffix == series


def _ubuntu(release: str) -> Callable[[str], bool]:
    """``22.04``, ``22.04:LTS``, ``Pro:22.04:LTS``; not the variants of Pro for other kernels and certified modules."""
    number = _UBUNTU.get(release, release)

    def accepts(suffix: str) -> bool:
        parts = suffix.split(":")
        return number in parts and set(parts) <= {number, "Pro", "LTS"}

    return accepts


def _alpine(release: str) -> Callable[[str], bool]:
    """A branch is two numbers; what comes before one (``3.20_alpha…``, ``edge``) is matched as edge."""
    branch = re.match(r"v?([0-9]+\.[0-9]+)(?!.*_)", release)
    wanted = f"v{branch[1]}" if branch else "edge"
    return lambda suffix: suffix == wanted


def _major(release: str) -> Callable[[str], bool]:
    number = release.partition(".")[0]
    return lambda suffix: suffix == number


def _exact(release: str) -> Callable[[str], bool]:
    """``3.0`` and ``3`` are the same release."""
    return lambda suffix: suffix.removesuffix(".0") == release.removesuffix(".0")


def _red_hat(release: str) -> Callable[[str], bool]:
    """Every repository of the release itself; extended streams and layered products have updates of their own."""
    number = release.partition(".")[0]
    return lambda suffix: suffix.split(":")[:2] == ["enterprise_linux", number]


def _suse(release: str) -> Callable[[str], bool]:
    """``15.5`` is 15 SP5, in every product and module of SUSE Linux Enterprise."""
    number, _, pack = release.partition(".")
    told = re.compile(
        rf"Linux Enterprise .*\b{re.escape(number)}{f' SP{re.escape(pack)}' if pack else '(?! SP)'}\b.*"
    )
    return lambda suffix: told.fullmatch(suffix) is not None


def _leap(release: str) -> Callable[[str], bool]:
    return lambda suffix: suffix == f"Leap {release}"


def _tumbleweed(_: str) -> Callable[[str], bool]:
    return lambda suffix: suffix == "Tumbleweed"


_DISTRIBUTIONS: dict[str, tuple[str, Callable[[str], Callable[[str], bool]] | None]] = {
    "debian": ("Debian", _debian),
    "ubuntu": ("Ubuntu", _ubuntu),
    "alpine": ("Alpine", _alpine),
    "wolfi": ("Wolfi", None),
    "chainguard": ("Chainguard", None),
    "almalinux": ("AlmaLinux", _major),
    "rocky": ("Rocky Linux", _major),
    "rhel": ("Red Hat", _red_hat),
    "redhat": ("Red Hat", _red_hat),
    "sles": ("SUSE", _suse),
    "opensuse-leap": ("openSUSE", _leap),
    "opensuse-tumbleweed": ("openSUSE", _tumbleweed),
    "mageia": ("Mageia", _major),
    "photon": ("Photon OS", _exact),
    "azurelinux": ("Azure Linux", _major),
}
