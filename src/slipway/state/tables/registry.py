"""What the registry knows; the bytes are in the content store."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from slipway.state.tables.base import Base, ByteWise


class Repository(Base):
    """``name`` is the whole path, project included; ``description`` and ``words`` (labels, in lower case) are what the
    image says of itself that was last tagged."""

    __tablename__ = "repositories"
    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(ByteWise, unique=True)
    created: Mapped[datetime]
    description: Mapped[str] = mapped_column(default="")
    words: Mapped[str] = mapped_column(default="")


class Manifest(Base):
    __tablename__ = "manifests"
    __table_args__ = (
        UniqueConstraint("repository_id", "digest"),
        Index("ix_manifests_subject", "repository_id", "subject"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"))
    digest: Mapped[str] = mapped_column(index=True)
    media_type: Mapped[str]
    artifact_type: Mapped[str] = mapped_column(default="")
    subject: Mapped[str | None]
    size: Mapped[int] = mapped_column(BigInteger)
    created: Mapped[datetime]
    pushed_by: Mapped[str] = mapped_column(default="")
    deleted: Mapped[datetime | None] = mapped_column(index=True)
    """In the trash since; it is gone for everybody but for whoever takes it out again."""


class ManifestReference(Base):
    """Blobs and child manifests that a manifest needs: the edges that collection follows."""

    __tablename__ = "manifest_references"
    manifest_id: Mapped[int] = mapped_column(ForeignKey("manifests.id", ondelete="CASCADE"), primary_key=True)
    digest: Mapped[str] = mapped_column(primary_key=True, index=True)
    size: Mapped[int] = mapped_column(BigInteger)


class Tag(Base):
    __tablename__ = "tags"
    repository_id: Mapped[int] = mapped_column(
        ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True
    )
    name: Mapped[str] = mapped_column(ByteWise, primary_key=True)
    manifest_id: Mapped[int] = mapped_column(ForeignKey("manifests.id", ondelete="CASCADE"), index=True)
    updated: Mapped[datetime]
    pushed_by: Mapped[str] = mapped_column(default="")
    pulled: Mapped[datetime | None]
    sequence: Mapped[int] = mapped_column(BigInteger, default=0, index=True)
    stamp: Mapped[int] = mapped_column(BigInteger, default=0)
    origin: Mapped[str] = mapped_column(default="")
    versions: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """``sequence`` orders the changes made here; ``stamp`` and ``origin`` say when and at which site the tag was moved
    to where it is; ``versions`` has the latest move of every site that this move knew of. See
    ``slipway.registry.replication``."""


class DeletedTag(Base):
    """What a tag was: kept so that it can be restored, and so that other sites hear of its end."""

    __tablename__ = "deleted_tags"
    repository_id: Mapped[int] = mapped_column(
        ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True
    )
    name: Mapped[str] = mapped_column(primary_key=True)
    manifest_id: Mapped[int | None] = mapped_column(
        ForeignKey("manifests.id", ondelete="SET NULL"), index=True
    )
    digest: Mapped[str]
    deleted: Mapped[datetime]
    deleted_by: Mapped[str]
    sequence: Mapped[int] = mapped_column(BigInteger, index=True)
    stamp: Mapped[int] = mapped_column(BigInteger)
    origin: Mapped[str]
    versions: Mapped[dict[str, Any]] = mapped_column(default=dict)


class Clock(Base):
    """One row: this registry's name among its peers, and the stamp of its latest change."""

    __tablename__ = "registry_clock"
    id: Mapped[int] = mapped_column(primary_key=True)
    site: Mapped[str]
    value: Mapped[int] = mapped_column(BigInteger)


class ProjectBlob(Base):
    """How many manifests of a project need a digest: what counts towards its quota, once."""

    __tablename__ = "project_blobs"
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True)
    digest: Mapped[str] = mapped_column(primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    count: Mapped[int]


class RepositoryBlob(Base):
    """A blob may be read in a repository only if it is linked there."""

    __tablename__ = "repository_blobs"
    repository_id: Mapped[int] = mapped_column(
        ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True
    )
    digest: Mapped[str] = mapped_column(primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    linked: Mapped[datetime]


class SharedFile(Base):
    """A file that all servers have a copy of: which blob it is now."""

    __tablename__ = "shared_files"
    name: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str]
    changed: Mapped[datetime]
