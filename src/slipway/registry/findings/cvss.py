"""Base scores from CVSS vectors (first.org): 2.0 and 3.x by the published formulas, 4.0 as an estimate."""

from __future__ import annotations

import math

_V3 = {
    "AV": {"N": 0.85, "A": 0.62, "L": 0.55, "P": 0.2},
    "AC": {"L": 0.77, "H": 0.44},
    "UI": {"N": 0.85, "R": 0.62},
    "S": {"U": 0.0, "C": 1.0},
    "C": {"H": 0.56, "L": 0.22, "N": 0.0},
    "I": {"H": 0.56, "L": 0.22, "N": 0.0},
    "A": {"H": 0.56, "L": 0.22, "N": 0.0},
}
_PRIVILEGES = {"U": {"N": 0.85, "L": 0.62, "H": 0.27}, "C": {"N": 0.85, "L": 0.68, "H": 0.5}}
_V2 = {
    "AV": {"L": 0.395, "A": 0.646, "N": 1.0},
    "AC": {"H": 0.35, "M": 0.61, "L": 0.71},
    "Au": {"M": 0.45, "S": 0.56, "N": 0.704},
    "C": {"N": 0.0, "P": 0.275, "C": 0.66},
    "I": {"N": 0.0, "P": 0.275, "C": 0.66},
    "A": {"N": 0.0, "P": 0.275, "C": 0.66},
}
_V4: dict[str, tuple[str, ...]] = {
    "AV": ("N", "A", "L", "P"),
    "AC": ("L", "H"),
    "AT": ("N", "P"),
    "PR": ("N", "L", "H"),
    "UI": ("N", "P", "A"),
    **{side + name: ("H", "L", "N") for side in "VS" for name in "CIA"},
}
_MAX_VECTOR = 500


def v3(vector: str) -> float | None:
    """The base score of ``CVSS:3.0/…`` or ``CVSS:3.1/…``; ``None`` if it is no such vector."""
    if not vector.startswith(("CVSS:3.0/", "CVSS:3.1/")):
        return None
    return _v3(_metrics(vector.partition("/")[2]))


def v2(vector: str) -> float | None:
    """The base score of ``AV:N/AC:L/Au:N/C:P/I:P/A:P``, in brackets or not."""
    metrics = _metrics(vector.strip("()").removeprefix("CVSS:2.0/"))
    value = {name: weights.get(metrics.get(name, "")) for name, weights in _V2.items()}
    known = {name: weight for name, weight in value.items() if weight is not None}
    if len(known) < len(_V2):
        return None
    impact = 10.41 * (1 - (1 - known["C"]) * (1 - known["I"]) * (1 - known["A"]))
    exploitability = 20 * known["AV"] * known["AC"] * known["Au"]
    score = (0.6 * impact + 0.4 * exploitability - 1.5) * (1.176 if impact else 0.0)
    return math.floor(score * 10 + 0.5) / 10


def v4_estimate(vector: str) -> float | None:
    """A score for ``CVSS:4.0/…`` that puts it rather a level too high than too low.

    The published score comes from a table of equivalence classes. This is version 3's formula, with what makes an
    attack harder (complexity, requirements, physical access) not counted, and harm to other systems as a changed
    scope; and no less than what 4.0 gives where it is stricter: 9 for grave harm to both the system and others, 7 for
    grave harm to either, 4 for any.
    """
    if not vector.startswith("CVSS:4.0/"):
        return None
    metrics = _metrics(vector.partition("/")[2])
    if any(metrics.get(name, "") not in values for name, values in _V4.items()):
        return None
    here, beyond = ({metrics[side + name] for name in "CIA"} for side in "VS")
    if here | beyond == {"N"}:
        return 0.0
    least = 9.0 if "H" in here and "H" in beyond else 7.0 if "H" in here | beyond else 4.0
    score = _v3(
        {
            "AV": metrics["AV"].replace("P", "L"),
            "AC": "L",
            "PR": metrics["PR"],
            "UI": "N" if metrics["UI"] == "N" else "R",
            "S": "U" if beyond == {"N"} else "C",
            **{name: min(metrics["V" + name], metrics["S" + name], key="HLN".index) for name in "CIA"},
        }
    )
    return max(least, score or 0.0)


def _v3(metrics: dict[str, str]) -> float | None:
    value = {name: weights.get(metrics.get(name, "")) for name, weights in _V3.items()}
    known = {name: weight for name, weight in value.items() if weight is not None}
    privileges = _PRIVILEGES.get(metrics.get("S", ""), {}).get(metrics.get("PR", ""))
    if len(known) < len(_V3) or privileges is None:
        return None
    base = 1 - (1 - known["C"]) * (1 - known["I"]) * (1 - known["A"])
    changed = bool(known["S"])
    impact = 7.52 * (base - 0.029) - 3.25 * (base - 0.02) ** 15 if changed else 6.42 * base
    if impact <= 0:
        return 0.0
    exploitability = 8.22 * known["AV"] * known["AC"] * privileges * known["UI"]
    return _rounded_up(min((1.08 if changed else 1.0) * (impact + exploitability), 10.0))


def _rounded_up(score: float) -> float:
    """To one decimal, counted in whole numbers as version 3.1 does: 4.02 is 4.1, but 4.000001 is 4.0."""
    whole = round(score * 100_000)
    return whole / 100_000 if whole % 10_000 == 0 else (whole // 10_000 + 1) / 10


def _metrics(text: str) -> dict[str, str]:
    """``AV:N/AC:L`` as a mapping; a metric that comes twice makes it no vector."""
    found: dict[str, str] = {}
    for part in text[:_MAX_VECTOR].split("/"):
        name, _, value = part.partition(":")
        if name in found:
            return {}
        found[name] = value
    return found
