"""Which builders there are, and who may use them."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from sqlalchemy import select

from slipway.errors import Conflict, Denied, Invalid, NotFound
from slipway.state import Database
from slipway.state.tables import Builder as Row

KUBERNETES = "kubernetes"
KINDS = ("remote", "socket", "dind", KUBERNETES)
OWN = "slipway"


@dataclass(frozen=True, slots=True)
class BuilderRecord:
    """``address``: ``unix:///path``, ``tcp://host:port`` (for ``dind``: the outer daemon's); for ``kubernetes`` a
    cluster's name, empty for the project's own. ``tls`` is a directory of ca.pem, cert.pem and key.pem on the server.
    ``image`` is what ``dind`` starts. Without ``projects`` all may use it.
    """

    name: str
    kind: str
    address: str
    tls: str = ""
    image: str = ""
    projects: tuple[str, ...] = ()

    def checked(self) -> BuilderRecord:
        """Itself. Raises ``Invalid``."""
        scheme = urlsplit(self.address).scheme
        if not self.name.replace("-", "").isalnum() or self.name == OWN:
            raise Invalid(f"not a name for a builder: {self.name[:60]!r}", hint="letters, digits and '-'")
        if self.kind not in KINDS:
            raise Invalid(f"not a kind of builder: {self.kind[:40]!r}", hint=f"one of {', '.join(KINDS)}")
        if self.kind == KUBERNETES:
            if self.address and not self.address.replace("-", "").isalnum():
                raise Invalid(f"not the name of a cluster: {self.address[:60]!r}")
            return self
        if scheme not in ("unix", "tcp") or (self.kind != "remote" and scheme != "unix"):
            raise Invalid(
                f"not an address for a {self.kind} builder: {self.address[:100]!r}",
                hint="unix:///var/run/docker.sock, or for a remote one tcp://HOST:2376",
            )
        if self.kind == "dind" and not self.image:
            raise Invalid("Docker in Docker needs the image to start", hint="--image docker:dind")
        return self


class Builders:
    """The builders in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, record: BuilderRecord) -> None:
        """Raises ``Conflict`` for a name that is taken."""
        record.checked()
        async with self._database.session() as session:
            if await session.get(Row, record.name) is not None:
                raise Conflict(f"there is a builder {record.name!r} already", hint="remove it first")
            session.add(
                Row(
                    name=record.name, kind=record.kind, address=record.address, tls=record.tls, image=record.image,
                    projects=list(record.projects),
                )
            )  # fmt: skip

    async def all(self) -> list[BuilderRecord]:
        async with self._database.read() as session:
            return [_record(row) for row in await session.scalars(select(Row).order_by(Row.name))]

    async def remove(self, name: str) -> None:
        async with self._database.session() as session:
            row = await session.get(Row, name)
            if row is None:
                raise NotFound(f"there is no builder {name!r}")
            await session.delete(row)

    async def require(self, name: str, project: str) -> BuilderRecord:
        """The builder, if the project may use it. Raises ``NotFound`` and ``Denied``.

        ``kubernetes`` needs no record: it is the project's own cluster.
        """
        async with self._database.read() as session:
            row = await session.get(Row, name)
        if row is None and name == KUBERNETES:
            return BuilderRecord(name, KUBERNETES, "")
        if row is None:
            raise NotFound(f"there is no builder {name!r}", hint="`slipway builder ls` lists them")
        found = _record(row)
        if found.projects and project not in found.projects:
            raise Denied(f"the project {project!r} may not use the builder {name!r}")
        return found


def _record(row: Row) -> BuilderRecord:
    return BuilderRecord(row.name, row.kind, row.address, row.tls, row.image, tuple(row.projects))
