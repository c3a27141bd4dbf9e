"""What is set for a project, section by section: each is read and written as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from slipway.client.transport import API, Transport

if TYPE_CHECKING:
    from pydantic import BaseModel

P = TypeVar("P", bound="BaseModel")


def policy(transport: Transport, project: str, section: str, form: type[P]) -> P:
    """``section``: the last part of its address."""
    return form.model_validate(transport.call("GET", _path(project, section)))


def set_policy(transport: Transport, project: str, section: str, wanted: P) -> P:
    """What holds then."""
    return type(wanted).model_validate(transport.call("PUT", _path(project, section), wanted.model_dump()))


def _path(project: str, section: str) -> str:
    return f"{API}/projects/{quote(project)}/{section}"
