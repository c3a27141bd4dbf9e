"""``slipway build -o …`` and ``slipway image export``: where an image goes besides the platform's registry."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from slipway import wire
from slipway.base.ids import new_id
from slipway.cli.logins import login_of
from slipway.cli.session import Session
from slipway.errors import Failed, Invalid

_SYNOPSIS = (
    "a directory, - for a tar on standard output, or type=local|tar|oci|docker,dest=PATH or "
    "type=registry,name=HOST/NAME:TAG"
)
_ARCHIVES = ("oci", "docker", "tar")
KINDS = ("local", *_ARCHIVES, "registry")


@dataclass(frozen=True, slots=True)
class Output:
    """``dest`` is a path or ``-``; ``name`` is another registry's image."""

    kind: str
    dest: str = ""
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> Output:
        if "=" not in text:
            return cls("tar", "-") if text == "-" else cls("local", text)
        fields = dict(item.partition("=")[::2] for item in text.split(","))
        kind = {"image": "registry"}.get(fields.get("type", ""), fields.get("type", ""))
        found = cls(kind, fields.get("dest", fields.get("output", "")), fields.get("name", ""))
        unknown = fields.keys() - {"type", "dest", "output", "name", "push"}
        needed = found.name if kind == "registry" else found.dest
        if kind not in KINDS or unknown or not needed:
            raise Invalid(f"not an output: {text!r}", hint=_SYNOPSIS)
        return found

    def write(self, session: Session, reference: str, platform: str = "") -> None:
        """Bring the image there. A file appears when it is whole."""
        if self.kind == "registry":
            push(session, reference, self.name)
        elif self.kind == "local":
            _unpack(session.client.export_image(reference, "tar", platform), Path(self.dest))
        elif self.dest == "-":
            for piece in session.client.export_image(reference, self.kind, platform):
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
        else:
            _save(session.client.export_image(reference, self.kind, platform), Path(self.dest))


def push(session: Session, reference: str, target: str) -> Mapping[str, object]:
    login = login_of(target.partition("/")[0])
    request = wire.Push(reference=reference, target=target)
    if login is not None:
        request = wire.Push(reference=reference, target=target, username=login[0], password=login[1])
    return session.follow(session.client.push_image(request))


def _save(pieces: Iterator[bytes], path: Path) -> None:
    draft = path.with_name(f".{path.name}.{new_id(6)}")
    try:
        with draft.open("wb") as handle:
            for piece in pieces:
                handle.write(piece)
        os.replace(draft, path)
    except OSError as error:
        raise Invalid(f"{path} cannot be written: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)


def _unpack(pieces: Iterator[bytes], directory: Path) -> None:
    """By the system's tar, which neither follows a link out of the directory nor keeps the image's owners."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Invalid(f"{directory} cannot be made: {error.strerror}") from error
    argv = ["tar", "--extract", "--file=-", "--no-same-owner", "-C", str(directory)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as tar:
        assert tar.stdin is not None
        assert tar.stderr is not None
        try:
            for piece in pieces:
                tar.stdin.write(piece)
            tar.stdin.close()
        except BrokenPipeError:
            pass  # what tar has to say follows
        said = tar.stderr.read().decode(errors="replace").strip()
    if tar.returncode:
        raise Failed(f"unpacking into {directory} failed: {said[-500:]}")
