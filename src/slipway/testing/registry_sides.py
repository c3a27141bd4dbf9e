"""Two registries that are asked the same by the same client: Debian's docker-registry and Slipway's."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from slipway.access import Access
from slipway.content import LocalStore
from slipway.state import Database
from slipway.testing.memory import family
from slipway.testing.peers import spawn
from slipway.testing.platform import Running, free_port

PROJECT = "demo"
ACTIONS = ["pull", "push"]
_USER, _SECRET = "bench", "correct horse"


class Side(Protocol):
    """A registry that is measured. Every request brings a token, which both verify (ES256)."""

    @property
    def port(self) -> int: ...

    def token(self, repositories: Sequence[str]) -> str: ...
    def pids(self) -> list[int]: ...
    def seed_tags(self, repository: str, count: int) -> None:
        """Copy the tag ``1`` of the repository to ``count`` others, ``v0000000`` and so on."""


class Distribution:
    """docker-registry, with its token authentication and a key of ours."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        directory.mkdir()
        self.port = free_port()
        self._root = directory / "data"
        self._key = ec.generate_private_key(ec.SECP256R1())
        (directory / "cert.pem").write_bytes(_certificate(self._key))
        config = directory / "registry.yml"
        config.write_text(
            f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n"
            f"storage: {{filesystem: {{rootdirectory: {self._root}}}}}\n"
            f"http: {{addr: '127.0.0.1:{self.port}'}}\n"
            f"auth: {{token: {{realm: 'http://127.0.0.1/token', service: bench, issuer: bench,"
            f" rootcertbundle: {directory}/cert.pem}}}}\n"
        )
        self._pid = spawn(stack, ["docker-registry", "serve", str(config)], directory / "log")
        until_answers(self.port)

    def token(self, repositories: Sequence[str]) -> str:
        now = int(time.time())
        access = [{"type": "repository", "name": name, "actions": ACTIONS} for name in repositories]
        claims = {
            "iss": "bench", "sub": "bench", "aud": "bench", "iat": now, "nbf": now - 10, "exp": now + 900,
            "jti": secrets.token_hex(16), "access": access,
        }  # fmt: skip
        return jwt.encode(claims, self._key, "ES256", headers={"kid": _key_id(self._key)})

    def pids(self) -> list[int]:
        return [self._pid]

    def seed_tags(self, repository: str, count: int) -> None:
        tags = self._root / "docker/registry/v2/repositories" / repository / "_manifests/tags"
        link = (tags / "1/current/link").read_bytes()
        for number in range(count):
            current = tags / f"v{number:07}" / "current"
            current.mkdir(parents=True)
            (current / "link").write_bytes(link)


class Slipway:
    """The whole platform, of which the registry is a part."""

    def __init__(self, directory: Path, stack: ExitStack, manifests: int = 0) -> None:
        """With ``manifests`` in its database before it starts, as ``seed_manifests`` makes them."""
        directory.mkdir()
        self.running = Running.make(directory)
        asyncio.run(_prepare(self.running.data))
        self.paths = seed_manifests(self.running.data, manifests) if manifests else []
        stack.callback(self.running.down)
        self.running.up()
        self.port = self.running.api_port
        self._pid = int((directory / "run" / "slipway.pid").read_text())

    def token(self, repositories: Sequence[str]) -> str:
        scopes = "&".join(f"scope=repository:{name}:{','.join(ACTIONS)}" for name in repositories)
        basic = base64.b64encode(f"{_USER}:{_SECRET}".encode()).decode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/token?{scopes}", headers={"Authorization": f"Basic {basic}"}
        )
        with urllib.request.urlopen(request) as answer:
            return str(json.loads(answer.read())["token"])

    def pids(self) -> list[int]:
        return family(self._pid)

    def seed_tags(self, repository: str, count: int) -> None:
        with sqlite3.connect(self.running.data / "state.db", timeout=60) as database:
            database.execute(
                "INSERT INTO tags (repository_id, name, manifest_id, updated) "
                "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?) "
                "SELECT t.repository_id, printf('v%07d', i), t.manifest_id, t.updated FROM n, tags t "
                "JOIN repositories r ON r.id = t.repository_id WHERE r.name = ? AND t.name = '1'",
                (count, repository),
            )


async def _prepare(data: Path) -> None:
    data.mkdir(parents=True)
    database = Database.sqlite(data / "state.db")
    await database.migrate()
    access = Access(database, data / "keys")
    await access.create_user(_USER, _SECRET, is_admin=True)
    await access.create_project(PROJECT)
    await database.dispose()


@dataclass(frozen=True, slots=True)
class Place:
    repository: str
    tag: str


REPOSITORIES, REAL = 20, 2000


def seed_manifests(data: Path, count: int) -> list[Place]:
    """``count`` tagged manifests in 20 repositories. Those that are returned, spread over all, have their bytes too."""
    each = count // REPOSITORIES
    stamp = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    media_type = "application/vnd.oci.image.manifest.v1+json"
    found = []
    with sqlite3.connect(data / "state.db") as database:
        for statement in ("PRAGMA cache_size = -1000000", "PRAGMA synchronous = OFF"):
            database.execute(statement)
        project = database.execute("SELECT id FROM projects WHERE name = ?", (PROJECT,)).fetchone()[0]
        numbers = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :each) "
        for number in range(REPOSITORIES):
            values = {
                "repository": 1000 + number, "name": f"{PROJECT}/many{number}", "project": project, "now": stamp,
                "each": each, "first": 1 + number * each, "step": 0xFFFFFFFF // each, "type": media_type,
            }  # fmt: skip
            database.execute(
                "INSERT INTO repositories (id, project_id, name, created) VALUES (:repository, :project, :name, :now)",
                values,
            )
            # In the order of the index, which is what makes ten million of them quick to write.
            database.execute(
                "INSERT INTO manifests (id, repository_id, digest, media_type, artifact_type, size, created) "
                f"{numbers} SELECT :first + i, :repository, 'sha256:' || printf('%08x', i * :step) || "
                "lower(hex(randomblob(28))), :type, '', 1000, :now FROM n",
                values,
            )
            database.execute(
                "INSERT INTO tags (repository_id, name, manifest_id, updated) "
                f"{numbers} SELECT :repository, printf('v%07d', i), :first + i, :now FROM n",
                values,
            )
        datas = [_manifest(number) for number in range(min(REAL, count))]
        for number, data_ in enumerate(datas):
            place = number * (count // len(datas))
            digest = "sha256:" + hashlib.sha256(data_).hexdigest()
            database.execute(
                "UPDATE manifests SET digest = ?, size = ? WHERE id = ?", (digest, len(data_), 1 + place)
            )
            found.append(Place(f"{PROJECT}/many{place // each}", f"v{place % each:07}"))
    LocalStore(data / "content").put_all(datas)
    return found


def _manifest(number: int) -> bytes:
    """Some manifest, of usual size, whose layers nobody will ask for."""
    layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "size": 1000}
    digests = [hashlib.sha256(f"{number} {index}".encode()).hexdigest() for index in range(8)]
    layers = [layer | {"digest": f"sha256:{digest}"} for digest in digests]
    config = {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": layers[0]["digest"],
        "size": 9,
    }
    media_type = "application/vnd.oci.image.manifest.v1+json"
    return json.dumps(
        {"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers}
    ).encode()


def until_answers(port: int) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/").close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"nothing answers on port {port}")


def _certificate(key: ec.EllipticCurvePrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bench")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    signed = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    return signed.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _key_id(key: ec.EllipticCurvePrivateKey) -> str:
    """As libtrust, which docker-registry uses, names keys."""
    public = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    text = base64.b32encode(hashlib.sha256(public).digest()[:30]).decode()
    return ":".join(text[index : index + 4] for index in range(0, len(text), 4))
