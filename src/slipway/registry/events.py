"""What happens to images: recorded for the audit, and kept for the webhooks that want to know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from slipway.access.audit import record
from slipway.base.clock import iso
from slipway.base.ids import new_id
from slipway.state.tables import Project, Webhook, WebhookDelivery

PUSHED = "image.pushed"
DELETED = "image.deleted"
RESTORED = "image.restored"
RETAINED = "image.retention"
QUOTA = "quota.exceeded"
CONFLICT = "replication.conflict"
KINDS = (PUSHED, DELETED, RESTORED, RETAINED, QUOTA, CONFLICT)


async def emit(
    session: AsyncSession, kind: str, project: str, repository: str, *, by: str, tag: str = "", digest: str = "",
    allowed: bool = True, detail: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Part of the transaction that does what it tells of: neither is there without the other."""
    about = {"repository": repository, "tag": tag, "digest": digest, **(detail or {})}
    moment = record(
        session, kind, f"{repository}:{tag}" if tag else f"{repository}@{digest}", by=by, project=project,
        allowed=allowed, detail={name: value for name, value in about.items() if value},
    )  # fmt: skip
    query = select(Webhook).join(Project, Project.id == Webhook.project_id).where(Project.name == project)
    for hook in await session.scalars(query):
        if kind not in hook.kinds:
            continue
        event = {
            "specversion": "1.0",
            "id": new_id(24),
            "source": f"/projects/{project}",
            "type": f"io.slipway.{kind}",
            "time": iso(moment),
            "subject": about["repository"],
            "datacontenttype": "application/json",
            "data": {**about, "project": project, "actor": by},
        }
        session.add(WebhookDelivery(webhook_id=hook.id, event=event, state="pending", attempts=0, due=moment))
