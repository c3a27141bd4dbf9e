"""The names that an app's services answer at, whichever engine runs them."""

from __future__ import annotations

from collections.abc import Iterator

from slipway.compose import Port, Service
from slipway.delivery.engine import AppRef


def hosts(app: AppRef, service: Service, domain: str) -> Iterator[tuple[str, Port]]:
    """The name each port answers at: the first is the service itself, others have their number in front."""
    name = f"{service.name}.{app.name}.{app.project}.{domain}"
    for index, port in enumerate(service.ports):
        yield (f"{port.target}.{name}" if index else name), port
