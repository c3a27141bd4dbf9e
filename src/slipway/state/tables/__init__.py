"""All tables, imported here so that migrations see the whole schema."""

from slipway.state.tables.access import AuditEvent, LoginSession, Member, Project, Robot, User
from slipway.state.tables.base import Base, UtcDateTime
from slipway.state.tables.build import Build, BuildCache, Builder, BuildLog, SigningKey
from slipway.state.tables.delivery import App, Release
from slipway.state.tables.external import GroupMember, PersonalToken
from slipway.state.tables.fleet import Cluster, ClusterProject, Lease
from slipway.state.tables.registry import (
    Clock,
    DeletedTag,
    Manifest,
    ManifestReference,
    ProjectBlob,
    Repository,
    RepositoryBlob,
    SharedFile,
    Tag,
)
from slipway.state.tables.sites import ReplicationConflict, Site
from slipway.state.tables.webhooks import Webhook, WebhookDelivery

__all__ = [
    "App",
    "AuditEvent",
    "Base",
    "Build",
    "BuildCache",
    "BuildLog",
    "Builder",
    "Clock",
    "Cluster",
    "ClusterProject",
    "DeletedTag",
    "GroupMember",
    "Lease",
    "LoginSession",
    "Manifest",
    "ManifestReference",
    "Member",
    "PersonalToken",
    "Project",
    "ProjectBlob",
    "Release",
    "ReplicationConflict",
    "Repository",
    "RepositoryBlob",
    "Robot",
    "SharedFile",
    "SigningKey",
    "Site",
    "Tag",
    "User",
    "UtcDateTime",
    "Webhook",
    "WebhookDelivery",
]
