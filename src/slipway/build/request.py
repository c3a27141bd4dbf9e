"""What a build is asked for, what it may use, and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from slipway.build.attest.provenance import Material
from slipway.build.cache_images import CacheTarget
from slipway.build.dockerfile import CacheMount
from slipway.build.made import Made
from slipway.build.ssh_agent import Agent
from slipway.oci import Digest, ImageConfig, Platform, Reference
from slipway.snapshots import LayerRef


@dataclass(frozen=True, slots=True)
class SolveRequest:
    """One Dockerfile to be carried out. ``dockerfile`` is a path below ``context`` unless ``inline`` is given.

    ``project`` is whose kept directories (``--mount=type=cache``) its steps see. ``secrets`` are by id; they are in
    memory only, and in no record, key or log. ``contexts`` are further directories and images by name. ``from_git``:
    the context is a checkout, whose ``.git`` is no part of it. ``uncached`` are stages, by name or number, whose steps
    all run again. ``epoch`` (SOURCE_DATE_EPOCH, in seconds) is the image's time and the latest of any file in it.
    ``granted`` are the entitlements of the project; ``agents`` are SSH agents by id.
    ``cache_from`` and ``cache_to`` are cache images.
    ``source`` is what the context is called in the image's provenance.
    ``line`` says what this is a newer version of, for those who ask why a step had to run.
    """

    build_id: str
    context: Path
    dockerfile: str = "Dockerfile"
    inline: str | None = None
    target: str | None = None
    args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    platform: Platform = field(default_factory=Platform.host)
    no_cache: bool = False
    project: str = ""
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    contexts: Mapping[str, Path | Reference] = field(default_factory=dict)
    from_git: bool = False
    uncached: frozenset[str] = frozenset()
    epoch: int | None = None
    line: str = ""
    source: str = "local"
    granted: frozenset[str] = frozenset()
    agents: Mapping[str, Agent] = field(default_factory=dict)
    cache_from: tuple[Reference, ...] = ()
    cache_to: tuple[CacheTarget, ...] = ()


@dataclass(frozen=True, slots=True)
class Solved:
    """The finished image: its configuration and layers. ``cached``: no step had to run.

    ``materials`` are images, files and commits from elsewhere.
    ``records`` are the results of all steps by key, ``mounts`` the kept directories that were used.
    """

    config: ImageConfig
    layers: tuple[LayerRef, ...]
    cached: bool
    records: Mapping[str, Made] = field(default_factory=dict)
    mounts: tuple[CacheMount, ...] = ()
    materials: tuple[Material, ...] = ()


@dataclass(frozen=True, slots=True)
class Built:
    """A build that succeeded and is in the registry."""

    build_id: str
    reference: str
    digest: Digest
    cached: bool
