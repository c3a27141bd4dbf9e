"""The two attitudes: strict for requests, lenient for answers."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

MOST_BYTES = 2**62
MOST_DAYS = 36_500
MOST_SECONDS = MOST_DAYS * 86_400
MOST_COUNT = 2**31 - 1
"""No number is larger than what is stored, or added to a date, can be."""


class Request(BaseModel):
    """Written by a person or a program for us: a key we do not know is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Answer(BaseModel):
    """Written by a server: a newer one may say more than we know."""

    model_config = ConfigDict(extra="ignore", frozen=True, from_attributes=True)
