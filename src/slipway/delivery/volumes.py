"""Volumes of an app that outlive its releases."""

from __future__ import annotations

from slipway.compose import Project


def named_volumes(model: Project) -> list[str]:
    """Those that services mount, in the file's order."""
    mounts = (item for service in model.services.values() for item in service.volumes)
    return list(dict.fromkeys(item.source for item in mounts if item.kind == "volume" and item.source))
