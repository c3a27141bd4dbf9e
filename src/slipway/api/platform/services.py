"""What the routes need, handed over by the composition root."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from slipway.access import Access, Identity, Vault
from slipway.access.oidc import OidcLogins
from slipway.base.progress import Progress
from slipway.build.attest.attestor import Attestor
from slipway.build.base_images import Images
from slipway.build.builders.records import Builders
from slipway.build.forwarding import Forwarding
from slipway.build.jobs import BuildJobs
from slipway.build.own_image import OwnImage
from slipway.build.pods.desk import Desk
from slipway.build.remote import Remotes
from slipway.delivery import Apps, Deliverer, Views
from slipway.distribution import Login
from slipway.fleet import Clusters
from slipway.registry import Registry, Retention, Transfers, Trash
from slipway.registry.findings import SharedAdvisories
from slipway.registry.gate import PullGate
from slipway.registry.replication import Replicator
from slipway.registry.webhooks import Webhooks


class ImagesOf(Protocol):
    """The images that one caller's build may stand on; see ``slipway.app.images``."""

    def __call__(
        self, owner: Identity, refresh: bool, logins: Mapping[str, Login], project: str
    ) -> Images: ...


@dataclass(frozen=True, slots=True)
class Services:
    """The rooms that routes call into."""

    access: Access
    vault: Vault
    registry: Registry
    trash: Trash
    retention: Retention
    replicator: Replicator
    webhooks: Webhooks
    gate: PullGate
    advisories: SharedAdvisories
    attestor: Attestor
    transfers: Transfers
    jobs: BuildJobs
    builders: Builders
    apps: Apps
    deliverer: Deliverer
    views: Views
    images_of: ImagesOf
    make_base: Callable[[str, str, list[str], str, bool, Progress], Awaitable[dict[str, Any]]]
    status: Callable[[], Awaitable[dict[str, Any]]]
    uploads: Path
    remotes: Remotes
    clusters: Clusters
    prune: Callable[[float, int, bool], Awaitable[dict[str, Any]]]
    desk: Desk
    make_own: Callable[[OwnImage, Progress], Awaitable[dict[str, Any]]]
    agents: Forwarding
    authority: Path | None = None
    oidc: OidcLogins | None = None
