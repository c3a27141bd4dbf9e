"""What the routes need, handed over by the composition root."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.access import Access, Identity
from slipway.base.progress import Progress
from slipway.build.base_images import BaseImages
from slipway.build.jobs import BuildJobs
from slipway.build.remote import Remotes
from slipway.delivery import Deliverer
from slipway.registry import Registry


@dataclass(frozen=True, slots=True)
class Services:
    """The rooms that routes call into."""

    access: Access
    registry: Registry
    jobs: BuildJobs
    deliverer: Deliverer
    images_of: Callable[[Identity, bool], BaseImages]
    make_base: Callable[[str, str, list[str], str, bool, Progress], Awaitable[dict[str, Any]]]
    status: Callable[[], Awaitable[dict[str, Any]]]
    uploads: Path
    remotes: Remotes
    prune: Callable[[float, int, bool], Awaitable[dict[str, Any]]]
