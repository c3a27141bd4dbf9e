"""Taking an app away: recorded first, so that an interrupted removal is finished and not undone."""

from __future__ import annotations

from slipway.base.progress import Progress
from slipway.delivery.apps import Apps
from slipway.delivery.engine import AppRef, Engine


async def take_away(engine: Engine, apps: Apps, ref: AppRef, volumes: bool, progress: Progress) -> None:
    """Idempotent; the caller holds the app's lock. ``volumes`` are kept unless asked for."""
    await engine.remove(ref, volumes, progress)
    await apps.remove(ref)
