"""Kubernetes clusters: which there are, how they are, and which projects use them."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter

from slipway import wire
from slipway.api.platform.bodies import BoundedRoute
from slipway.api.platform.callers import Caller, Parts
from slipway.errors import Invalid
from slipway.fleet import ClusterDetail

router = APIRouter(tags=["clusters"], route_class=BoundedRoute)


def _shown(found: ClusterDetail) -> wire.ClusterDetail:
    record = found.record
    return wire.ClusterDetail(
        name=record.name,
        server=record.server,
        version=record.version,
        namespace_prefix=record.prefix,
        state=found.state,
        error=found.error,
        warnings=list(found.warnings),
        nodes_ready=sum(node.ready for node in found.nodes),
        nodes_total=len(found.nodes),
        usable=wire.NodeResources.model_validate(found.usable),
        projects=[wire.ClusterBinding.model_validate(item) for item in record.bindings],
        created=record.created,
        nodes=[wire.ClusterNode.model_validate(asdict(node)) for node in found.nodes],
    )


@router.get("/clusters")
async def clusters(parts: Parts, caller: Caller) -> list[wire.Cluster]:
    await parts.access.require_admin(caller, "see the clusters")
    return [_shown(found) for found in await parts.clusters.list()]


@router.get("/clusters/{name}")
async def cluster(parts: Parts, caller: Caller, name: str) -> wire.ClusterDetail:
    await parts.access.require_admin(caller, "see the clusters")
    return _shown(await parts.clusters.show(name))


@router.post("/clusters", status_code=201)
async def add_cluster(parts: Parts, caller: Caller, request: wire.NewCluster) -> wire.ClusterDetail:
    await parts.access.require_admin(caller, "add clusters")
    if bool(request.kubeconfig) == request.in_cluster:
        raise Invalid("a cluster is added by a kubeconfig, or as the one that the server runs in")
    made = await parts.clusters.add(
        request.name, request.kubeconfig, request.context or None, request.namespace_prefix
    )
    await parts.access.audit(caller, "cluster.add", request.name, detail={"server": made.record.server})
    return _shown(made)


@router.delete("/clusters/{name}", status_code=204)
async def remove_cluster(parts: Parts, caller: Caller, name: str, force: bool = False) -> None:
    await parts.access.require_admin(caller, "remove clusters")
    await parts.clusters.remove(name, force=force)
    await parts.access.audit(caller, "cluster.remove", name, detail={"force": force})


@router.put("/clusters/{name}/projects/{project}")
async def bind_cluster(
    parts: Parts, caller: Caller, name: str, project: str, request: wire.BindCluster
) -> wire.ClusterBinding:
    await parts.access.require_admin(caller, "give clusters to projects")
    bound = await parts.clusters.bind(name, project, request.weight)
    detail = {"project": project, "weight": request.weight}
    await parts.access.audit(caller, "cluster.bind", name, detail=detail)
    return wire.ClusterBinding.model_validate(bound)


@router.delete("/clusters/{name}/projects/{project}", status_code=204)
async def unbind_cluster(parts: Parts, caller: Caller, name: str, project: str) -> None:
    await parts.access.require_admin(caller, "take clusters from projects")
    await parts.clusters.unbind(name, project)
    await parts.access.audit(caller, "cluster.unbind", name, detail={"project": project})
