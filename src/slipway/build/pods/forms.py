"""What the server and a worker elsewhere tell each other, as JSON.

Both are of the same version, since the worker's image is made from the server's own packages; what does not have this
form is refused nevertheless, for what comes from a worker comes from outside.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from slipway.base.clock import iso
from slipway.build.attest.provenance import Material
from slipway.build.base_images import BaseImage
from slipway.build.builders import BuilderRecord
from slipway.build.dockerfile import CacheMount
from slipway.build.made import Made
from slipway.build.remote import GitSource, HttpSource, RemoteSource
from slipway.build.request import Solved, SolveRequest
from slipway.build.sandbox import Limits
from slipway.build.surroundings import Surroundings
from slipway.errors import KINDS, Invalid, SlipwayError
from slipway.oci import Descriptor, Digest, ImageConfig, Platform, Reference
from slipway.snapshots import LayerRef

Json = dict[str, Any]
HUNG_UP, REFUSED = 3, 4
"""With what a worker ends that its server left, and one whose node does not let it make a user namespace."""
ID_SLOTS = 8192
"""Ranges of ids that a node's user namespaces take up; who keeps files on a volume always has the same."""
_TREE = "tree:"


@dataclass(frozen=True, slots=True)
class Job:
    """One build as a worker gets it: its contexts are the numbers of trees that it asks for.

    Secrets and agents are not in it: a worker asks for a secret when a step is about to run that mounts it, and what it
    asks one of ``agents`` goes through the server. ``daemon`` builds instead of the worker itself.
    """

    request: SolveRequest
    surroundings: Surroundings
    limits: Limits
    agents: tuple[str, ...] = ()
    daemon: BuilderRecord | None = None


def tree_name(number: int) -> Path:
    """What a tree is called in a request: no path of any disk."""
    return Path(f"{_TREE}{number}")


def tree_number(name: Path) -> int:
    return int(str(name).removeprefix(_TREE))


def job_to_json(job: Job) -> Json:
    request = job.request
    contexts = {
        name: {"image": str(value)} if isinstance(value, Reference) else {"tree": tree_number(value)}
        for name, value in request.contexts.items()
    }
    return {
        "build": request.build_id, "tree": tree_number(request.context), "dockerfile": request.dockerfile,
        "inline": request.inline, "target": request.target, "args": dict(request.args),
        "labels": dict(request.labels), "platform": str(request.platform), "no_cache": request.no_cache,
        "project": request.project, "agents": list(job.agents), "contexts": contexts,
        "from_git": request.from_git, "uncached": sorted(request.uncached),
        "epoch": request.epoch, "line": request.line, "source": request.source, "granted": sorted(request.granted),
        "certificates": _text(job.surroundings.certificates), "proxies": dict(job.surroundings.proxies),
        "limits": job.limits.to_json(), "daemon": asdict(job.daemon) if job.daemon else None,
    }  # fmt: skip


def job_from_json(value: Json) -> Job:
    contexts = {
        name: Reference.parse(item["image"]) if "image" in item else tree_name(item["tree"])
        for name, item in value["contexts"].items()
    }
    limits = value["limits"]
    request = SolveRequest(
        value["build"], tree_name(value["tree"]), value["dockerfile"], value["inline"], value["target"],
        value["args"], value["labels"], Platform.parse(value["platform"]), value["no_cache"], value["project"],
        {}, contexts, value["from_git"],
        frozenset(value["uncached"]), value["epoch"], value["line"], value["source"], frozenset(value["granted"]),
    )  # fmt: skip
    return Job(
        request,
        Surroundings(base64.b64decode(value["certificates"]), value["proxies"]),
        Limits(limits["cpus"], int(limits["memory"]), int(limits["pids"]), limits["seconds"], int(limits["disk"])),
        tuple(value["agents"]), _daemon(value["daemon"]),
    )  # fmt: skip


def _daemon(value: Json | None) -> BuilderRecord | None:
    return BuilderRecord(**{**value, "projects": tuple(value["projects"])}) if value else None


def layer_to_json(layer: LayerRef) -> Json:
    return {"diffId": str(layer.diff_id), "blob": layer.blob.to_json()}


def layer_from_json(value: Json) -> LayerRef:
    return LayerRef(Digest.parse(value["diffId"]), Descriptor.from_json(value["blob"]))


def made_to_json(made: Made) -> Json:
    layer = layer_to_json(made.layer) if made.layer else None
    return {"layer": layer, "uncompressed": made.uncompressed, "created": iso(made.created)}


def made_from_json(value: Json) -> Made:
    layer = layer_from_json(value["layer"]) if value["layer"] else None
    created = datetime.fromisoformat(value["created"])
    if created.tzinfo is None:
        raise Invalid("a time without a zone")
    return Made(layer, int(value["uncompressed"]), created)


def image_to_json(image: BaseImage) -> Json:
    return {
        "digest": str(image.digest),
        "config": _text(image.config.to_bytes()),
        "layers": [layer_to_json(layer) for layer in image.layers],
    }


def image_from_json(value: Json) -> BaseImage:
    layers = tuple(layer_from_json(item) for item in value["layers"])
    return BaseImage(
        Digest.parse(value["digest"]), ImageConfig.parse(base64.b64decode(value["config"])), layers
    )


def source_to_json(source: RemoteSource) -> Json:
    return {"kind": "git" if isinstance(source, GitSource) else "http", **asdict(source)}


def source_from_json(value: Json) -> RemoteSource:
    values = {name: item for name, item in value.items() if name != "kind"}
    return GitSource(**values) if value["kind"] == "git" else HttpSource(**values)


def solved_to_json(solved: Solved) -> Json:
    return {
        "config": _text(solved.config.to_bytes()),
        "layers": [layer_to_json(layer) for layer in solved.layers],
        "cached": solved.cached,
        "records": {key: made_to_json(made) for key, made in solved.records.items()},
        "mounts": [asdict(mount) for mount in solved.mounts],
        "materials": [item.to_json() for item in solved.materials],
    }


def solved_from_json(value: Json) -> Solved:
    """Raises ``Invalid`` for anything that is no result."""
    try:
        return Solved(
            ImageConfig.parse(base64.b64decode(value["config"])),
            tuple(layer_from_json(item) for item in value["layers"]),
            bool(value["cached"]),
            {str(key): made_from_json(item) for key, item in value["records"].items()},
            tuple(CacheMount(**item) for item in value["mounts"]),
            tuple(Material(str(item["uri"]), dict(item.get("digest", {}))) for item in value["materials"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Invalid(f"the worker's result is damaged: {type(error).__name__}") from error


def error_to_json(error: SlipwayError) -> Json:
    context = {name: value for name, value in error.context.items() if isinstance(value, str | int | float)}
    return {"kind": error.kind, "message": error.message, "hint": error.hint, "context": context}


def error_from_json(value: Mapping[str, Any]) -> SlipwayError:
    kind = KINDS.get(str(value.get("kind")), SlipwayError)
    context = {str(name): item for name, item in dict(value.get("context") or {}).items()}
    context.pop("hint", None)
    return kind(str(value.get("message", "")), hint=str(value.get("hint", "")), **context)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
