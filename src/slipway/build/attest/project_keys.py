"""The projects' signing keys: sealed, in the database, so that all servers of a site have the same."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from slipway.access import Vault
from slipway.base.clock import now
from slipway.build.attest.signing import new_key, public_pem
from slipway.errors import Invalid
from slipway.state import Database, add_once
from slipway.state.tables import SigningKey

log = logging.getLogger(__name__)


class ProjectKeys:
    """ECDSA P-256 keys. A project's is made when something is first signed for it, and stays.

    Earlier versions kept them as ``earlier/PROJECT.pem``: these are taken over. A key in the database wins.
    """

    def __init__(self, database: Database, vault: Vault, earlier: Path | None = None) -> None:
        self._database = database
        self._vault = vault
        self._earlier = earlier
        self._known: dict[str, ec.EllipticCurvePrivateKey] = {}

    async def take_over(self) -> None:
        """All keys of earlier versions, before anything is signed. The files stay, for a way back."""
        if self._earlier is None or not self._earlier.is_dir():
            return
        for path in sorted(self._earlier.glob("[!.]*.pem")):
            await self.find(path.stem)

    async def find(self, project: str) -> ec.EllipticCurvePrivateKey | None:
        """``None`` while nothing was signed for the project. Raises ``Invalid`` for a key that cannot be used."""
        if project in self._known:
            return self._known[project]
        sealed = await self._sealed(project)
        if sealed is None and (text := await asyncio.to_thread(self._filed, project)):
            sealed = await self._kept(project, text)
            log.info("the signing key of %s is in the database now", project)
        return self._opened(project, sealed) if sealed is not None else None

    async def of(self, project: str) -> ec.EllipticCurvePrivateKey:
        """The project's key, which is made if there is none: of two servers that make it one wins, for both."""
        found = await self.find(project)
        if found is not None:
            return found
        made = new_key().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return self._opened(project, await self._kept(project, made.decode()))

    async def public(self, project: str) -> bytes:
        """PEM, as ``cosign verify --key`` wants it."""
        return public_pem((await self.of(project)).public_key())

    async def _kept(self, project: str, text: str) -> str:
        """What is in the database afterwards."""
        async with self._database.session() as session:
            await add_once(session, SigningKey, project=project, sealed=self._vault.seal(text), created=now())
        sealed = await self._sealed(project)
        assert sealed is not None
        return sealed

    async def _sealed(self, project: str) -> str | None:
        async with self._database.read() as session:
            row = await session.get(SigningKey, project)
        return row.sealed if row is not None else None

    def _filed(self, project: str) -> str:
        if self._earlier is None:
            return ""
        try:
            return (self._earlier / f"{project}.pem").read_text()
        except FileNotFoundError:
            return ""

    def _opened(self, project: str, sealed: str) -> ec.EllipticCurvePrivateKey:
        try:
            key = serialization.load_pem_private_key(self._vault.open(sealed).encode(), None)
        except ValueError as error:
            raise Invalid(f"the signing key of {project!r} cannot be read: {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise Invalid(f"the signing key of {project!r} is of another kind")
        self._known[project] = key
        return key
