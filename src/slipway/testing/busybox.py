"""A root with busybox and nothing else, for tests that run containers."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

BUSYBOX = Path("/bin/busybox")
_DIRECTORIES = ("bin", "etc", "tmp", "proc", "sys", "dev")
_TOOLS = (
    "cat", "chmod", "chown", "cut", "dd", "echo", "env", "false", "grep", "head", "hostname", "httpd", "id", "kill",
    "ln", "ls", "mkdir", "mknod", "mount", "nslookup", "pwd", "rm", "sed", "sh", "sleep", "sort", "stat", "tail",
    "test", "touch", "true", "unshare", "wc", "wget",
)  # fmt: skip


def busybox_tar() -> bytes:
    """A root with busybox and nothing else."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in _DIRECTORIES:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            archive.addfile(entry)
        data = BUSYBOX.read_bytes()
        entry = tarfile.TarInfo("bin/busybox")
        entry.size, entry.mode = len(data), 0o755
        archive.addfile(entry, io.BytesIO(data))
        for name in _TOOLS:
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(entry)
    return stream.getvalue()
