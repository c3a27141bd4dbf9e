"""The store on a local disk."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

from slipway.base.files import fsync_directory
from slipway.base.ids import new_id
from slipway.content.collect import Collected, Roots, collect
from slipway.content.leases import Lease, leased
from slipway.content.protocol import READ_LIMIT, damaged
from slipway.content.uploads import RunningHashes, Upload, age
from slipway.content.writer import BlobWriter
from slipway.errors import Exhausted, Invalid, NotFound
from slipway.oci import Digest


class LocalStore:
    """Blobs below ``root``. Everything blocks: call it from a thread.

    Without ``durable`` writers and ``put`` wait for no disk: what they store need not survive this machine's run.
    """

    def __init__(self, root: Path, *, durable: bool = True) -> None:
        self._durable = durable
        self._hashes = RunningHashes()
        self._blobs, self._ingest = root / "blobs", root / "ingest"
        self._uploads, self._leases = root / "uploads", root / "leases"
        for directory in (self._blobs, self._ingest, self._uploads, self._leases):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def recover(self) -> None:
        """After a crash, before anything else uses the store: nobody writes what is in ``ingest``, nobody holds a
        lease any more (a server's builds and uploads ended with it)."""
        for directory in (self._ingest, self._leases):
            for path in directory.iterdir():
                path.unlink()

    def path(self, digest: Digest) -> Path:
        return self._blobs / digest.algorithm / digest.hex[:2] / digest.hex

    def size(self, digest: Digest) -> int | None:
        """The blob's bytes, or ``None`` when it is not here."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            return None

    def renew(self, digest: Digest) -> int | None:
        """``size``, and protection by age from now on: a client that is told that it is here will not send it."""
        with self._locked(fcntl.LOCK_SH):  # the sweep must not be between its look and its removal
            touched = _touch(self.path(digest))
        return self.size(digest) if touched else None

    def age(self, digest: Digest) -> float:
        try:
            return age(self.path(digest))
        except FileNotFoundError:
            return 0.0

    def open(self, digest: Digest) -> BinaryIO:
        try:
            return self.path(digest).open("rb")
        except FileNotFoundError as error:
            raise NotFound(f"the blob {digest} is not in the store") from error

    def read(self, digest: Digest, limit: int = READ_LIMIT) -> bytes:
        """A small blob whole. Raises ``Exhausted`` above ``limit`` bytes."""
        with self.open(digest) as handle:
            data = handle.read(limit + 1)
        if len(data) > limit:
            raise Exhausted(f"the blob {digest} has more than {limit} bytes")
        return data

    def put(self, data: bytes) -> Digest:
        with self.writer() as writer:
            writer.write(data)
            return writer.commit()[0]

    def put_all(self, contents: Iterable[bytes]) -> list[Digest]:
        """Several small blobs, waiting for the disk as often as for one. All are stored, or the call raises."""
        datas = list(contents)
        moved: list[Path] = []

        def publish(path: Path, digest: Digest) -> None:
            self._place(path, digest)
            moved.append(self.path(digest).parent)

        with contextlib.ExitStack() as stack:
            writers = [stack.enter_context(BlobWriter(self._ingest / new_id(16), publish)) for _ in datas]
            for writer, data in zip(writers, datas, strict=True):
                writer.write(data)
            # The first synchronization takes all that was made before it along; the others find nothing to do.
            found = [writer.commit()[0] for writer in writers]
        for directory in dict.fromkeys(moved):
            fsync_directory(directory)
        return found

    def writer(self, algorithm: str = "sha256") -> BlobWriter:
        return BlobWriter(self._ingest / new_id(16), self._publish, algorithm, self._durable)

    def upload(self, upload_id: str, *, create: bool = False) -> Upload:
        """Open or (``create``) begin a resumable upload. Raises ``NotFound``."""
        if not upload_id.isalnum() or len(upload_id) > 64:
            raise Invalid(f"not an upload id: {upload_id[:80]!r}")
        return Upload(self._uploads / upload_id, self._publish, create, self._hashes)

    def uploads(self) -> list[tuple[str, float]]:
        """Ids of uploads and the seconds since each was last written."""
        found = []
        for path in self._uploads.iterdir():
            with contextlib.suppress(FileNotFoundError):
                found.append((path.name, age(path)))
        return found

    def delete(self, digest: Digest) -> bool:
        """Remove a blob whoever uses it; whether it was there."""
        return bool(self.delete_older([digest], float("inf")))

    def delete_older(self, digests: Sequence[Digest], end: float) -> list[Digest]:
        """Remove those that nobody has published or leased since ``end`` (seconds since 1970); which they were.

        Under the lock they only change their place, for a file system takes its time to free gigabytes.
        """
        removed: dict[Digest, Path] = {}
        try:
            with self._locked(fcntl.LOCK_EX):
                for digest in digests:
                    path, away = self.path(digest), self._ingest / new_id(16)
                    with contextlib.suppress(FileNotFoundError):
                        if path.stat().st_mtime < end:
                            os.rename(path, away)
                            removed[digest] = away
        finally:
            for away in removed.values():
                away.unlink(missing_ok=True)
        return list(removed)

    def touch(self, digest: Digest) -> bool:
        """Make a blob young for the sweep; whether it is there."""
        with self._locked(fcntl.LOCK_SH):
            return _touch(self.path(digest))

    def digests(self) -> Iterator[Digest]:
        return (digest for digest, _, _ in self.listing())

    def listing(self) -> Iterator[tuple[Digest, int, float]]:
        """Every blob with its size and the time it was written, by digest; in memory are a shard's names at a time."""
        for algorithm in ("sha256", "sha512"):
            for shard in self._names(self._blobs / algorithm):
                for name in self._names(self._blobs / algorithm / shard):
                    # Gone meanwhile, or a stray file: neither is a blob.
                    with contextlib.suppress(FileNotFoundError, Invalid):
                        digest = Digest(algorithm, name)
                        status = os.stat(self.path(digest))
                        yield digest, status.st_size, status.st_mtime

    @staticmethod
    def _names(directory: Path) -> list[str]:
        try:
            return sorted(os.listdir(directory))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def lease(self, owner: str, ttl: timedelta) -> Lease:
        """Protect what is added to the lease from collection, for at most ``ttl``."""
        return Lease(self._leases, owner, ttl, self.renew)

    def leased(self) -> Iterator[Digest]:
        return leased(self._leases)

    def collect(self, roots: Roots, grace: timedelta = timedelta(hours=1)) -> Collected:
        return collect(self, roots, grace)

    def fsck(self) -> Iterator[Digest]:
        """Blobs whose bytes are not what their name says."""
        return damaged(self)

    def _publish(self, path: Path, digest: Digest) -> None:
        self._place(path, digest)
        if self._durable:
            fsync_directory(self.path(digest).parent)

    def _place(self, path: Path, digest: Digest) -> None:
        """The blob is there, but only a synchronization of its directory makes that last."""
        target = self.path(digest)
        self._shard(target.parent)
        os.chmod(path, 0o400)
        with self._locked(fcntl.LOCK_SH):
            if _touch(target):
                path.unlink()  # the same bytes are here: keep them
            else:
                _touch(path)
                os.rename(path, target)

    def _shard(self, directory: Path) -> None:
        """Make the directory that blobs of one prefix share, durably."""
        if directory.is_dir():
            return
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._durable:
            fsync_directory(directory.parent)
            fsync_directory(directory.parent.parent)

    @contextlib.contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        fd = os.open(self._blobs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, kind)
            yield
        finally:
            os.close(fd)


def _touch(path: Path) -> bool:
    try:
        now = time.time_ns()  # explicit: the kernel's own idea of now lags some milliseconds behind
        os.utime(path, ns=(now, now))
    except FileNotFoundError:
        return False
    return True
