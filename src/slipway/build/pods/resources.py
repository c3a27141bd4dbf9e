"""What a build's container may use, and what is set aside for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slipway.build.sandbox import Limits

MI = 1 << 20


def resources(limits: Limits) -> dict[str, Any]:
    """Limits are the build's; a half of the memory and a quarter of the CPUs are set aside for it, as most builds rest
    or wait for most of their time."""
    most: Mapping[str, str] = {
        **({"cpu": f"{int(limits.cpus * 1000)}m"} if limits.cpus else {}),
        **({"memory": f"{max(1, limits.memory // MI)}Mi"} if limits.memory else {}),
        **({"ephemeral-storage": f"{max(1, limits.disk // MI)}Mi"} if limits.disk else {}),
    }
    least: Mapping[str, str] = {
        **({"cpu": f"{int(limits.cpus * 250)}m"} if limits.cpus else {}),
        **({"memory": f"{max(1, limits.memory // 2 // MI)}Mi"} if limits.memory else {}),
        **({"ephemeral-storage": f"{max(1, min(limits.disk // MI, 1024))}Mi"} if limits.disk else {}),
    }
    return {"limits": dict(most), "requests": dict(least)}
