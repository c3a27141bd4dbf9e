"""Logins, users, projects, members, robots."""

from __future__ import annotations

from datetime import timedelta

from fastapi import APIRouter, Request

from slipway import wire
from slipway.access import Permission, Role
from slipway.api.platform.bodies import BoundedRoute
from slipway.api.platform.callers import Caller, Parts
from slipway.build.policy import BuildPolicy
from slipway.delivery import AppPolicy

router = APIRouter(tags=["accounts"], route_class=BoundedRoute)


@router.post("/login")
async def login(parts: Parts, request: wire.Login, connection: Request) -> wire.Token:
    address = connection.client.host if connection.client else ""
    identity = await parts.access.authenticate(request.name, request.password, address)
    token, expires = await parts.access.open_session(identity)
    await parts.access.audit(identity, "login", identity.name)
    return wire.Token(token=token, expires=expires)


@router.get("/me")
async def me(caller: Caller) -> wire.Me:
    return wire.Me(name=caller.name, kind=caller.kind, is_admin=caller.is_admin)


@router.get("/users")
async def users(parts: Parts, caller: Caller) -> list[wire.User]:
    await parts.access.require_admin(caller, "list users")
    return [wire.User.model_validate(item) for item in await parts.access.users()]


@router.post("/users", status_code=201)
async def create_user(parts: Parts, caller: Caller, request: wire.NewUser) -> wire.User:
    await parts.access.require_admin(caller, "create users")
    made = await parts.access.create_user(request.name, request.password, is_admin=request.is_admin)
    await parts.access.audit(caller, "user.create", request.name)
    return wire.User.model_validate(made)


@router.put("/users/{name}/password", status_code=204)
async def set_password(parts: Parts, caller: Caller, name: str, request: wire.Password) -> None:
    if caller.name != name or caller.kind != "user" or caller.by_token:
        await parts.access.require_admin(caller, "change other users' passwords")
    await parts.access.set_password(name, request.password)
    await parts.access.audit(caller, "user.password", name)


@router.delete("/users/{name}", status_code=204)
async def delete_user(parts: Parts, caller: Caller, name: str) -> None:
    await parts.access.require_admin(caller, "delete users")
    await parts.access.delete_user(name)
    await parts.access.audit(caller, "user.delete", name)


@router.get("/projects")
async def projects(parts: Parts, caller: Caller) -> list[wire.Project]:
    return [wire.Project.model_validate(item) for item in await parts.access.projects(caller)]


@router.post("/projects", status_code=201)
async def create_project(parts: Parts, caller: Caller, request: wire.NewProject) -> wire.Project:
    await parts.access.require_admin(caller, "create projects")
    owner = caller.name if caller.kind == "user" else ""
    made = await parts.access.create_project(request.name, public=request.public, owner=owner)
    await parts.access.audit(caller, "project.create", request.name, project=request.name)
    return wire.Project.model_validate(made)


@router.delete("/projects/{name}", status_code=204)
async def delete_project(parts: Parts, caller: Caller, name: str) -> None:
    await parts.access.require_admin(caller, "delete projects")
    await parts.access.delete_project(name)
    await parts.access.audit(caller, "project.delete", name, project=name)


@router.get("/projects/{name}/build-policy")
async def build_policy(parts: Parts, caller: Caller, name: str) -> wire.BuildPolicy:
    await parts.access.require(caller, name, Permission.VIEW)
    found = BuildPolicy.parse(await parts.access.policy(name, "build"))
    return wire.BuildPolicy.model_validate(found.to_json())


@router.put("/projects/{name}/build-policy")
async def set_build_policy(
    parts: Parts, caller: Caller, name: str, request: wire.BuildPolicy
) -> wire.BuildPolicy:
    await parts.access.require_admin(caller, "change what a project's builds may use")
    policy = BuildPolicy.parse(request.model_dump()).checked()
    await parts.access.set_policy(name, "build", policy.to_json())
    await parts.access.audit(caller, "project.build-policy", name, project=name, detail=policy.to_json())
    return wire.BuildPolicy.model_validate(policy.to_json())


@router.get("/projects/{name}/app-policy")
async def app_policy(parts: Parts, caller: Caller, name: str) -> wire.AppPolicy:
    await parts.access.require(caller, name, Permission.VIEW)
    found = AppPolicy.parse(await parts.access.policy(name, "app"))
    return wire.AppPolicy.model_validate(found.to_json())


@router.put("/projects/{name}/app-policy")
async def set_app_policy(parts: Parts, caller: Caller, name: str, request: wire.AppPolicy) -> wire.AppPolicy:
    await parts.access.require_admin(caller, "change what a project's apps may have")
    policy = AppPolicy.parse(request.model_dump()).checked()
    await parts.access.set_policy(name, "app", policy.to_json())
    await parts.access.audit(caller, "project.app-policy", name, project=name, detail=policy.to_json())
    return wire.AppPolicy.model_validate(policy.to_json())


@router.get("/projects/{name}/signing-key")
async def signing_key(parts: Parts, caller: Caller, name: str) -> wire.SigningKey:
    await parts.access.require(caller, name, Permission.VIEW)
    return wire.SigningKey(public=(await parts.attestor.keys.public(name)).decode())


@router.get("/projects/{name}/members")
async def members(parts: Parts, caller: Caller, name: str) -> list[wire.Member]:
    await parts.access.require(caller, name, Permission.VIEW)
    found = await parts.access.members(name)
    return [wire.Member(user=item.user, role=item.role.value, origin=item.origin) for item in found]


@router.put("/projects/{name}/members/{user}", status_code=204)
async def set_member(parts: Parts, caller: Caller, name: str, user: str, request: wire.SetMember) -> None:
    await parts.access.require(caller, name, Permission.MANAGE)
    await parts.access.set_member(name, user, Role.parse(request.role))
    await parts.access.audit(caller, "member.set", user, project=name, detail={"role": request.role})


@router.delete("/projects/{name}/members/{user}", status_code=204)
async def remove_member(parts: Parts, caller: Caller, name: str, user: str) -> None:
    await parts.access.require(caller, name, Permission.MANAGE)
    await parts.access.remove_member(name, user)
    await parts.access.audit(caller, "member.remove", user, project=name)


@router.get("/projects/{name}/robots")
async def robots(parts: Parts, caller: Caller, name: str) -> list[wire.Robot]:
    await parts.access.require(caller, name, Permission.MANAGE)
    found = await parts.access.robots(name)
    return [
        wire.Robot(
            name=item.name,
            role=item.role.value,
            repositories=list(item.repositories),
            expires=item.expires,
            created=item.created,
        )
        for item in found
    ]


@router.post("/projects/{name}/robots", status_code=201)
async def create_robot(parts: Parts, caller: Caller, name: str, request: wire.NewRobot) -> wire.RobotSecret:
    await parts.access.require(caller, name, Permission.MANAGE)
    lifetime = timedelta(days=request.days) if request.days else None
    login, secret, expires = await parts.access.create_robot(
        name, request.name, Role.parse(request.role), lifetime, request.repositories
    )
    await parts.access.audit(caller, "robot.create", request.name, project=name)
    return wire.RobotSecret(login=login, secret=secret, expires=expires)


@router.delete("/projects/{name}/robots/{robot}", status_code=204)
async def delete_robot(parts: Parts, caller: Caller, name: str, robot: str) -> None:
    await parts.access.require(caller, name, Permission.MANAGE)
    await parts.access.delete_robot(name, robot)
    await parts.access.audit(caller, "robot.delete", robot, project=name)
