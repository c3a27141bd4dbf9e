"""What Compose has and this engine has not yet."""

from __future__ import annotations

from slipway.compose import Project, Refusal

_LATER = "is not supported yet"
_HINT = "remove it"


def refusals(model: Project) -> list[Refusal]:
    """An app has one network of its own, and its files come with its images."""
    found = [
        Refusal((key,), _LATER, _HINT)
        for key, value in (
            ("networks", model.networks),
            ("configs", model.configs),
            ("secrets", model.secrets),
        )
        if value
    ]
    for service in model.services.values():
        used = {
            "networks": service.networks,
            "configs": service.configs,
            "secrets": service.secrets,
            "shm_size": service.shm_size,
        }
        found += [
            Refusal(("services", service.name, key), _LATER, _HINT) for key, value in used.items() if value
        ]
    return found
