"""An OCI image layout in a directory, asked like a registry."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Protocol

from slipway.base import linux
from slipway.errors import Invalid, NotFound
from slipway.oci import Descriptor, Digest, Index, MediaType, Reference, parse_manifest

_REF_NAME = "org.opencontainers.image.ref.name"
_LATEST = "latest"
_MAX_DOCUMENT = 4 * 1024 * 1024
_PIECE = 1024 * 1024
_RESOLVE = linux.RESOLVE_BENEATH | linux.RESOLVE_NO_SYMLINKS


class ImageSource(Protocol):
    """Where an image comes from: another registry, or a layout."""

    async def manifest(self, reference: Reference) -> tuple[bytes, str]:
        """The bytes and the media type. Raises ``NotFound``, and ``Invalid`` for bytes of another digest."""
        ...

    def blob(self, reference: Reference, blob: Descriptor) -> AsyncGenerator[bytes, None]:
        """The content in pieces, not verified."""
        ...


class OciLayout:
    """The layout in ``directory``; nothing in it leads out of there. Use it as a context manager."""

    def __init__(self, directory: Path) -> None:
        self._root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> OciLayout:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        os.close(self._root)

    async def manifest(self, reference: Reference) -> tuple[bytes, str]:
        """By digest, or by the tag in the layout's index; without that tag, the only image, or all of one.

        Raises ``NotFound``, and ``Invalid`` for what is no layout.
        """
        return await asyncio.to_thread(self._manifest, reference)

    async def blob(self, reference: Reference, blob: Descriptor) -> AsyncGenerator[bytes, None]:
        fd = await asyncio.to_thread(self._open, _path(blob.digest))
        try:
            while piece := await asyncio.to_thread(os.read, fd, _PIECE):
                yield piece
        finally:
            os.close(fd)

    def _manifest(self, reference: Reference) -> tuple[bytes, str]:
        raw = self._read("index.json")
        index = parse_manifest(raw, MediaType.OCI_INDEX)
        if not isinstance(index, Index):
            raise Invalid("the layout's index.json is no image index")
        if reference.digest is not None:
            return self._document(reference.digest)
        tag = reference.tag or _LATEST
        named = [item for item in index.manifests if _is_named(item, tag)]
        if len(named) == 1:
            return self._document(named[0].digest)
        if not named and tag == _LATEST and len(index.manifests) == 1:
            return self._document(index.manifests[0].digest)
        if (named or tag == _LATEST) and all(item.platform for item in named or index.manifests):
            return Index(tuple(named or index.manifests)).to_bytes(), MediaType.OCI_INDEX
        known = sorted(filter(None, (item.annotations.get(_REF_NAME, "") for item in index.manifests)))
        raise NotFound(
            f"the layout has no image {tag!r}",
            hint=f"it has {', '.join(known[:10])}" if known else "name one by its digest: PATH@sha256:…",
        )

    def _document(self, digest: Digest) -> tuple[bytes, str]:
        data = self._read(_path(digest))
        if Digest.of(data) != digest:
            raise Invalid(f"the layout's {digest} has other content than its name says")
        try:
            value = json.loads(data)
            kind = value.get("mediaType") or (
                MediaType.OCI_INDEX if "manifests" in value else MediaType.OCI_MANIFEST
            )
        except (ValueError, AttributeError, RecursionError) as error:
            raise Invalid(f"the layout's {digest} is no manifest: {error}"[:300]) from error
        return data, str(kind)

    def _read(self, path: str) -> bytes:
        fd = self._open(path)
        try:
            size = os.fstat(fd).st_size
            if size > _MAX_DOCUMENT:
                raise Invalid(f"the layout's {path} has {size} bytes, more than {_MAX_DOCUMENT}")
            return os.read(fd, size + 1)
        finally:
            os.close(fd)

    def _open(self, path: str) -> int:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            fd = linux.openat2(self._root, path, flags, resolve=_RESOLVE)
        except OSError as error:
            raise NotFound(
                f"the layout has no {path}: {error.strerror}", hint="an OCI layout has index.json and blobs/"
            ) from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise Invalid(f"the layout's {path} is no regular file")
        return fd


def _is_named(item: Descriptor, tag: str) -> bool:
    name = item.annotations.get(_REF_NAME, "")
    return name == tag or name.endswith(f":{tag}")


def _path(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"
