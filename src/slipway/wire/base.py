"""The two attitudes: strict for requests, lenient for answers."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Request(BaseModel):
    """Written by a person or a program for us: a key we do not know is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Answer(BaseModel):
    """Written by a server: a newer one may say more than we know."""

    model_config = ConfigDict(extra="ignore", frozen=True, from_attributes=True)
