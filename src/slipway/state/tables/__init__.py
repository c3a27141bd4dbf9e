"""All tables, imported here so that migrations see the whole schema."""

from slipway.state.tables.access import AuditEvent, LoginSession, Member, Project, Robot, User
from slipway.state.tables.base import Base, UtcDateTime
from slipway.state.tables.build import Build, BuildCache, Builder
from slipway.state.tables.delivery import App, Release
from slipway.state.tables.external import GroupMember, PersonalToken
from slipway.state.tables.registry import (
    Manifest,
    ManifestReference,
    Repository,
    RepositoryBlob,
    Tag,
    Upload,
)

__all__ = [
    "App",
    "AuditEvent",
    "Base",
    "Build",
    "BuildCache",
    "Builder",
    "GroupMember",
    "LoginSession",
    "Manifest",
    "ManifestReference",
    "Member",
    "PersonalToken",
    "Project",
    "Release",
    "Repository",
    "RepositoryBlob",
    "Robot",
    "Tag",
    "Upload",
    "User",
    "UtcDateTime",
]
