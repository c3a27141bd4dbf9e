"""What Compose has and Kubernetes has not."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from slipway.compose import Project, Refusal, Service
from slipway.delivery.jobs import is_job
from slipway.engines.kubernetes.names import is_service_name

_USER = re.compile(r"\d{1,10}(?::\d{1,10})?", re.ASCII)
_HOSTNAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_NOT = "cannot be had on Kubernetes"


def refusals(model: Project) -> list[Refusal]:
    return [refusal for service in model.services.values() for refusal in _of(model, service)]


def _of(model: Project, service: Service) -> Iterator[Refusal]:
    at = ("services", service.name)
    if not is_service_name(service.name):
        yield Refusal(
            at,
            "is no name that services are reached by on Kubernetes",
            "use letters, digits and '-', a letter first",
        )
    if service.stop_signal and service.stop_signal.removeprefix("SIG") not in ("TERM", "15"):
        yield Refusal((*at, "stop_signal"), _NOT, "set STOPSIGNAL in the image's Dockerfile instead")
    if service.pids:
        where = (*at, "deploy", "resources", "limits", "pids")
        yield Refusal(
            (*at, "pids_limit"), _NOT, "the cluster's kubelets limit processes (podPidsLimit)", where
        )
    if service.user and not _USER.fullmatch(service.user):
        yield Refusal((*at, "user"), f"{_NOT} by name: {service.user[:40]!r}", "use numbers, e.g. 1000:1000")
    if service.hostname and not _HOSTNAME.fullmatch(service.hostname):
        yield Refusal((*at, "hostname"), _NOT, "use lower-case letters, digits and '-'")
    if service.hostname and service.stateful and not is_job(model, service):
        yield Refusal((*at, "hostname"), f"{_NOT} for a service with volumes", "it is named by its instance")
    for host, address in service.extra_hosts.items():
        if not _is_address(address):
            yield Refusal((*at, "extra_hosts"), f"{_NOT}: {host}={address[:40]}", "give an IP address")
    for use in service.networks.values():
        for alias in use.aliases:
            if not is_service_name(alias):
                yield Refusal(
                    (*at, "networks"), f"{_NOT} with the alias {alias[:40]!r}", "use letters, digits and '-'"
                )
            elif alias in model.services and alias != service.name:
                yield Refusal(
                    (*at, "networks"), f"{_NOT} with another service's name as alias", "choose another"
                )
    if service.healthcheck is not None and service.healthcheck.timeout > 3600:
        yield Refusal((*at, "healthcheck"), f"{_NOT} with a timeout above an hour")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True
