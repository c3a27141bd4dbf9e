"""A caller, once it is known who it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Identity:
    """``id`` is the row of the user or robot; ``project`` and ``role`` are set for robots only.

    ``by_token`` says that a personal token stands for the user, who is not there to log in.
    ``local`` says that the caller is root on the server's own machine and may name directories there.
    """

    name: str
    kind: Literal["user", "robot", "system", "anonymous"]
    id: int = 0
    is_admin: bool = False
    project: str = ""
    role: str = ""
    local: bool = False
    by_token: bool = False


SYSTEM = Identity("root", "system", is_admin=True, local=True)
ANONYMOUS = Identity("anonymous", "anonymous")
