"""From a Compose service and an image to a container. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slipway.compose import HealthTest, Service
from slipway.delivery.engine import AppRef
from slipway.delivery.jobs import is_job
from slipway.delivery.releases import Release
from slipway.errors import Invalid
from slipway.oci import ImageConfig
from slipway.runtime import ContainerSpec, HealthCheck, Mount, NetworkRequest, Resources, RestartPolicy

LABEL = "slipway."
_NANO = 1_000_000_000


def network_name(app: AppRef) -> str:
    """Neither a project nor an app has ``_`` in its name, so no two apps share what is named after them."""
    return f"{app.project}_{app.name}"


def volume_path(volumes: Path, app: AppRef, name: str) -> Path:
    if "/" in name or name in ("", ".", ".."):  # also what an older version stored must not lead out
        raise Invalid(f"not a volume name: {name[:60]!r}")
    return volumes / f"{network_name(app)}_{name}"


def volumes_of(volumes: Path, project: str) -> list[Path]:
    """All volumes of a project's apps that there are, of removed ones too."""
    return sorted(volumes.glob(f"{project}_*"))


def volume_paths(volumes: Path, app: AppRef) -> list[Path]:
    """All volumes of the app that there are, of earlier releases too."""
    return sorted(volumes.glob(f"{network_name(app)}_*"))


def container_spec(
    app: AppRef,
    release: Release,
    service: Service,
    replica: int,
    config: ImageConfig,
    chain: str,
    volumes: Path,
) -> ContainerSpec:
    """Compose overrides the image field by field, as Docker does it."""
    image = config.config
    argv = _argv(service, image)
    if not argv:
        raise Invalid(f"{service.name!r} has no command", hint="set `command:`, or CMD in its Dockerfile")
    name = f"{service.name}-{replica}"
    return ContainerSpec(
        name=f"{app.project}-{app.name}-{name}",
        image=release.images[service.name]["reference"],
        chain=chain,
        argv=argv,
        env=tuple({**config.environment, **service.environment}.items()),
        cwd=service.working_dir or str(image.get("WorkingDir") or "/"),
        user=service.user or str(image.get("User") or ""),
        hostname=service.hostname,
        mounts=_mounts(app, service, image, volumes),
        resources=Resources(service.cpus, service.memory, service.pids),
        networks=(NetworkRequest(network_name(app), (service.name, name)),),
        restart=_restart(service.restart),
        # A job's image may be that of a service, with a check of what a job never does.
        health=None
        if is_job(release.model, service)
        else _health(service.healthcheck, image.get("Healthcheck") or {}),
        labels=_labels(app, release, service, replica),
        stop_signal=service.stop_signal or str(image.get("StopSignal") or "SIGTERM"),
        stop_timeout=service.stop_grace_period,
        read_only=service.read_only,
        cap_add=service.cap_add,
        cap_drop=service.cap_drop,
        extra_hosts=tuple(service.extra_hosts.items()),
    )


def _argv(service: Service, image: Any) -> tuple[str, ...]:
    """An entrypoint of the Compose file also drops the image's command."""
    if service.entrypoint is not None:
        return (*service.entrypoint, *(service.command or ()))
    command = service.command if service.command is not None else tuple(image.get("Cmd") or ())
    return (*(image.get("Entrypoint") or ()), *command)


def _mounts(app: AppRef, service: Service, image: Any, volumes: Path) -> tuple[Mount, ...]:
    found = []
    for item in service.volumes:
        if item.kind == "tmpfs":
            found.append(Mount(item.target, kind="tmpfs", read_only=item.read_only))
        elif item.kind == "bind":
            raise Invalid(
                f"{service.name!r} mounts the path {item.source!r} of the host",
                hint="use a named volume; host paths are not supported",
            )
        elif item.source:
            found.append(
                Mount(item.target, str(volume_path(volumes, app, item.source)), "volume", item.read_only)
            )
        elif service.read_only:
            found.append(Mount(item.target, kind="tmpfs"))
        # Else nothing: an anonymous volume lives as long as its container, and so does the container's own layer.
    found += [Mount(path, kind="tmpfs") for path in service.tmpfs]
    return tuple(found)


def _restart(text: str) -> RestartPolicy:
    mode, _, count = text.partition(":")
    return RestartPolicy(mode, int(count or 0))  # type: ignore[arg-type]


def _health(test: HealthTest | None, image: dict[str, Any]) -> HealthCheck | None:
    """The Compose file's check, else the image's; ``NONE`` switches it off."""
    if test is not None:
        argv = _test(test.test)
        times = (test.interval, test.timeout, test.retries, test.start_period, test.start_interval)
        return HealthCheck(argv, *times) if argv else None
    argv = _test(tuple(image.get("Test") or ()))
    if not argv:
        return None
    return HealthCheck(
        argv,
        (image.get("Interval") or 30 * _NANO) / _NANO,
        (image.get("Timeout") or 30 * _NANO) / _NANO,
        image.get("Retries") or 3,
        (image.get("StartPeriod") or 0) / _NANO,
        (image.get("StartInterval") or 5 * _NANO) / _NANO,
    )


def _test(words: tuple[str, ...]) -> tuple[str, ...]:
    if not words or words[0] == "NONE":
        return ()
    return ("/bin/sh", "-c", words[1]) if words[0] == "CMD-SHELL" else words[1:]


def _labels(app: AppRef, release: Release, service: Service, replica: int) -> dict[str, str]:
    return {
        **service.labels,
        f"{LABEL}project": app.project,
        f"{LABEL}app": app.name,
        f"{LABEL}service": service.name,
        f"{LABEL}release": str(release.number),
        f"{LABEL}replica": str(replica),
        f"{LABEL}config": release.config_of(service),
        "com.docker.compose.project": f"{app.project}-{app.name}",
        "com.docker.compose.service": service.name,
        "com.docker.compose.container-number": str(replica),
        "com.docker.compose.config-hash": release.config_of(service),
        "com.docker.compose.oneoff": "False",
    }
