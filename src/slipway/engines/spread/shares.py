"""How many instances each cluster gets. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache


def shares(total: int, weights: Mapping[str, int], salt: str = "") -> dict[str, int]:
    """``total`` divided by weight, one for each cluster at least; clusters of weight 0 get none.

    One instance after the other goes where ``weight / (2 * instances + 1)`` is greatest (Webster's method). That is
    what giving the largest remainders would come to but for rare cases, and it never takes an instance from a cluster
    because there is one more to give, a cluster less, or a greater weight of its own. ``salt`` decides between equals.
    """
    given = tuple(sorted((name, weight) for name, weight in weights.items() if weight > 0))
    found = dict.fromkeys(weights, 0)
    return found | dict(_divided(total, given, salt))


@lru_cache(maxsize=10_000)
def _divided(total: int, weights: tuple[tuple[str, int], ...], salt: str) -> tuple[tuple[str, int], ...]:
    if total <= 0 or not weights:
        return ()
    count = {name: 1 for name, _ in weights}
    order = {
        name: hashlib.sha256(f"{salt}\0{name}".encode(errors="surrogatepass")).digest() for name, _ in weights
    }
    for _ in range(total - len(weights)):
        _, _, name = max(
            (Fraction(weight, 2 * count[name] + 1), order[name], name) for name, weight in weights
        )
        count[name] += 1
    return tuple(count.items())
