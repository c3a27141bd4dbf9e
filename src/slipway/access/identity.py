"""A caller, once it is known who it is."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal


@dataclass(frozen=True, slots=True)
class Identity:
    """``id`` is the row of the user or robot; ``project`` and ``role`` are set for robots only.

    ``repositories`` are patterns that narrow a robot to a part of its project. ``local`` says that the caller is root
    on the server's own machine and may name directories there.
    """

    name: str
    kind: Literal["user", "robot", "system", "anonymous"]
    id: int = 0
    is_admin: bool = False
    project: str = ""
    role: str = ""
    repositories: tuple[str, ...] = ()
    local: bool = False
    by_token: bool = False

    def reaches(self, repository: str) -> bool:
        """Whether a repository (with its project) is among those this account was made for; what it may do there is
        another question."""
        name = repository.partition("/")[2]
        return not self.repositories or any(fnmatchcase(name, pattern) for pattern in self.repositories)


SYSTEM = Identity("root", "system", is_admin=True, local=True)
ANONYMOUS = Identity("anonymous", "anonymous")
