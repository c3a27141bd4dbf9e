"""One method a verb of the platform API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlencode

from slipway import wire
from slipway.client.credentials import Credentials
from slipway.client.logins import Logins
from slipway.client.policies import policy, set_policy
from slipway.client.transport import API, Transport
from slipway.wire import bodies

if TYPE_CHECKING:
    from slipway.client.clusters import ClusterVerbs
    from slipway.client.registry import RegistryVerbs

Events = Iterator[dict[str, Any]]


def _query(path: str, **values: Any) -> str:
    given = {key: value for key, value in values.items() if value not in (None, "", False)}
    return f"{API}{path}?{urlencode(given)}" if given else f"{API}{path}"


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Client(Logins):
    """Talks to one server as one caller."""

    def __init__(self, credentials: Credentials) -> None:
        self.transport = Transport(credentials.server, credentials.token, authority=credentials.authority)

    @cached_property
    def registry(self) -> RegistryVerbs:
        """Policies, trash, sites, webhooks and the audit."""
        from slipway.client.registry import RegistryVerbs

        return RegistryVerbs(self.transport)

    @cached_property
    def clusters(self) -> ClusterVerbs:
        """Kubernetes clusters."""
        from slipway.client.clusters import ClusterVerbs

        return ClusterVerbs(self.transport)

    @property
    def is_local(self) -> bool:
        return self.transport.is_local

    def _list(self, path: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.transport.call("GET", path)
        return found

    def status(self) -> wire.Status:
        return wire.Status.model_validate(self.transport.call("GET", f"{API}/status"))

    # Users, projects, members, robots

    def users(self) -> list[wire.User]:
        return [wire.User.model_validate(item) for item in self._list(f"{API}/users")]

    def create_user(self, name: str, password: str, is_admin: bool) -> wire.User:
        body = wire.NewUser(name=name, password=password, is_admin=is_admin).model_dump()
        return wire.User.model_validate(self.transport.call("POST", f"{API}/users", body))

    def set_password(self, name: str, password: str) -> None:
        self.transport.call("PUT", f"{API}/users/{quote(name)}/password", {"password": password})

    def delete_user(self, name: str) -> None:
        self.transport.call("DELETE", f"{API}/users/{quote(name)}")

    def projects(self) -> list[wire.Project]:
        return [wire.Project.model_validate(item) for item in self._list(f"{API}/projects")]

    def create_project(self, name: str, public: bool) -> wire.Project:
        body = {"name": name, "public": public}
        return wire.Project.model_validate(self.transport.call("POST", f"{API}/projects", body))

    def delete_project(self, name: str) -> None:
        self.transport.call("DELETE", f"{API}/projects/{quote(name)}")

    def build_policy(self, project: str) -> wire.BuildPolicy:
        return policy(self.transport, project, "build-policy", wire.BuildPolicy)

    def set_build_policy(self, project: str, wanted: wire.BuildPolicy) -> wire.BuildPolicy:
        return set_policy(self.transport, project, "build-policy", wanted)

    def app_policy(self, project: str) -> wire.AppPolicy:
        return policy(self.transport, project, "app-policy", wire.AppPolicy)

    def set_app_policy(self, project: str, wanted: wire.AppPolicy) -> wire.AppPolicy:
        return set_policy(self.transport, project, "app-policy", wanted)

    def members(self, project: str) -> list[wire.Member]:
        found = self._list(f"{API}/projects/{quote(project)}/members")
        return [wire.Member.model_validate(item) for item in found]

    def set_member(self, project: str, user: str, role: str) -> None:
        path = f"{API}/projects/{quote(project)}/members/{quote(user)}"
        self.transport.call("PUT", path, {"role": role})

    def remove_member(self, project: str, user: str) -> None:
        self.transport.call("DELETE", f"{API}/projects/{quote(project)}/members/{quote(user)}")

    def robots(self, project: str) -> list[wire.Robot]:
        found = self._list(f"{API}/projects/{quote(project)}/robots")
        return [wire.Robot.model_validate(item) for item in found]

    def create_robot(
        self, project: str, name: str, role: str, days: int | None, repositories: Sequence[str] = ()
    ) -> wire.RobotSecret:
        body = {"name": name, "role": role, "days": days, "repositories": list(repositories)}
        found = self.transport.call("POST", f"{API}/projects/{quote(project)}/robots", body)
        return wire.RobotSecret.model_validate(found)

    def delete_robot(self, project: str, name: str) -> None:
        self.transport.call("DELETE", f"{API}/projects/{quote(project)}/robots/{quote(name)}")

    # Images and builds

    def images(self, project: str = "") -> list[wire.Image]:
        return [wire.Image.model_validate(item) for item in self._list(_query("/images", project=project))]

    def search(self, *words: str, limit: int = 100) -> list[wire.RepositoryFound]:
        """Repositories and projects that all of ``words`` are found in."""
        path = _query("/search", q=" ".join(words), limit=limit)
        return [wire.RepositoryFound.model_validate(item) for item in self._list(path)]

    def image(self, reference: str) -> wire.ImageDetail:
        found = self.transport.call("GET", _query("/images/inspect", reference=reference))
        return wire.ImageDetail.model_validate(found)

    def sbom(self, reference: str) -> dict[str, Any]:
        found: dict[str, Any] = self.transport.call("GET", _query("/images/sbom", reference=reference))
        return found

    def signing_key(self, project: str) -> wire.SigningKey:
        found = self.transport.call("GET", f"{API}/projects/{quote(project)}/signing-key")
        return wire.SigningKey.model_validate(found)

    def export_image(self, reference: str, form: str, platform: str = "") -> Iterator[bytes]:
        """The archive in pieces. What the server had to say is raised before the first."""
        return self.transport.pieces(
            _query("/images/export", reference=reference, format=form, platform=platform)
        )

    def push_image(self, request: wire.Push) -> Events:
        return self.transport.stream("POST", f"{API}/images/push", request.model_dump())

    def delete_image(self, reference: str, *, now: bool = False) -> None:
        self.transport.call("DELETE", _query("/images", reference=reference, now=now))

    def worker_image(self) -> Events:
        return self.transport.stream("POST", f"{API}/builders/image")

    def platform_image(self) -> Events:
        return self.transport.stream("POST", f"{API}/platform/image")

    def base_image(self, request: wire.BaseImage) -> Events:
        return self.transport.stream("POST", f"{API}/images/base", request.model_dump())

    def upload(self, tar: IO[bytes]) -> str:
        found: str = self.transport.call("POST", f"{API}/uploads", tar)["id"]
        return found

    def build(self, project: str, request: bodies.BuildRequest) -> Events:
        return self.transport.stream("POST", f"{API}/projects/{quote(project)}/builds", request)

    def answer_agent(self, session: str, number: int, message: str) -> None:
        """What an SSH agent of ours said to an event ``ssh.ask``, in base64."""
        path = f"{API}/agents/{quote(session, safe='')}/{number}"
        self.transport.call("POST", path, {"message": message})

    def builds(self, project: str = "") -> list[wire.Build]:
        return [wire.Build.model_validate(item) for item in self._list(_query("/builds", project=project))]

    def build_record(self, build: str) -> wire.Build:
        return wire.Build.model_validate(self.transport.call("GET", f"{API}/builds/{quote(build)}"))

    def build_log(self, build: str, follow: bool) -> Events:
        return self.transport.stream("GET", _query(f"/builds/{quote(build)}/log", follow=follow))

    def prune_builds(self, days: float, size: int, dry_run: bool) -> wire.Pruned:
        body = {"days": days, "size": size, "dry_run": dry_run}
        return wire.Pruned.model_validate(self.transport.call("POST", f"{API}/builds/prune", body))

    def builders(self) -> list[wire.Builder]:
        return [wire.Builder.model_validate(item) for item in self._list(f"{API}/builders")]

    def add_builder(self, builder: wire.Builder) -> None:
        self.transport.call("POST", f"{API}/builders", builder.model_dump())

    def remove_builder(self, name: str) -> None:
        self.transport.call("DELETE", f"{API}/builders/{quote(name)}")

    def cancel_build(self, build: str) -> None:
        self.transport.call("POST", f"{API}/builds/{quote(build)}/cancel")

    # Apps

    def deliver(self, project: str, request: bodies.Deliver) -> Events:
        return self.transport.stream("POST", f"{API}/projects/{quote(project)}/deliver", request)

    def render(self, project: str, request: bodies.Render) -> list[dict[str, Any]]:
        """The app's Kubernetes manifests."""
        found: list[dict[str, Any]] = self.transport.call(
            "POST", f"{API}/projects/{quote(project)}/render", request
        )
        return found

    def apps(self, project: str = "") -> list[wire.App]:
        return [wire.App.model_validate(item) for item in self._list(_query("/apps", project=project))]

    def app(self, project: str, name: str) -> wire.AppDetail:
        return wire.AppDetail.model_validate(self.transport.call("GET", self._app(project, name)))

    def releases(self, project: str, name: str) -> list[wire.Release]:
        found = self._list(f"{self._app(project, name)}/releases")
        return [wire.Release.model_validate(item) for item in found]

    def rollback(self, project: str, name: str, to: int | None) -> Events:
        return self.transport.stream("POST", f"{self._app(project, name)}/rollback", {"to": to})

    def scale(self, project: str, name: str, replicas: Mapping[str, int]) -> Events:
        body = {"replicas": dict(replicas)}
        return self.transport.stream("POST", f"{self._app(project, name)}/scale", body)

    def move(self, project: str, name: str, to: str, leave_data: bool) -> Events:
        body = {"to": to, "leave_data": leave_data}
        return self.transport.stream("POST", f"{self._app(project, name)}/move", body)

    def restart(self, project: str, name: str, services: Sequence[str]) -> Events:
        return self.transport.stream(
            "POST", f"{self._app(project, name)}/restart", {"services": list(services)}
        )

    def app_logs(self, project: str, name: str, service: str, follow: bool, tail: int | None) -> Events:
        path = _query(
            f"/projects/{quote(project)}/apps/{quote(name)}/logs", service=service, follow=follow, tail=tail
        )
        return self.transport.stream("GET", path)

    def execute(self, project: str, name: str, request: Mapping[str, Any]) -> Events:
        """``exec`` with the session that its input goes to, ``output``s, ``done`` with its exit code."""
        return self.transport.stream("POST", f"{self._app(project, name)}/exec", request)

    def execute_input(self, session: str, stream: Readable) -> None:
        """Until the end of ``stream``."""
        self.transport.call("POST", f"{API}/exec/{quote(session)}/input", stream)

    def execute_resize(self, session: str, columns: int, rows: int) -> None:
        self.transport.call("POST", f"{API}/exec/{quote(session)}/size", {"columns": columns, "rows": rows})

    def remove_app(self, project: str, name: str, volumes: bool) -> Events:
        path = _query(f"/projects/{quote(project)}/apps/{quote(name)}", volumes=volumes)
        return self.transport.stream("DELETE", path)

    @staticmethod
    def _app(project: str, name: str) -> str:
        return f"{API}/projects/{quote(project)}/apps/{quote(name)}"
