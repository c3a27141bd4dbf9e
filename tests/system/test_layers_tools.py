"""Our layers in the hands of other tools, and theirs in ours; what the kernel's overlay makes of both."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from slipway.base import linux
from slipway.content import LocalStore
from slipway.layers import Compression, Entry, Layer, apply_layer, diff_upper, import_tar, write_layer
from slipway.oci import Descriptor, Digest, ImageConfig, Manifest, MediaType

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts and owners need root"),
    pytest.mark.skipif(
        not (shutil.which("umoci") and shutil.which("skopeo")), reason="needs umoci and skopeo"
    ),
]

Facts = dict[str, tuple[object, ...]]


def facts(root: Path) -> Facts:
    """All of a tree that a layer carries."""
    found: Facts = {}
    inodes: dict[int, str] = {}
    for path in sorted(root.rglob("*")):
        status, name = path.lstat(), str(path.relative_to(root))
        content: object = None
        if stat.S_ISREG(status.st_mode):
            content = (path.read_bytes(), inodes.setdefault(status.st_ino, name))
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)
        attributes = tuple(
            (key, os.getxattr(path, key, follow_symlinks=False))
            for key in sorted(os.listxattr(path, follow_symlinks=False))
            if not key.startswith(("trusted.", "user.rootlesscontainers"))
        )
        found[name] = (
            oct(status.st_mode), status.st_uid, status.st_gid, int(status.st_mtime), status.st_rdev, content,
            attributes,
        )  # fmt: skip
    return found


def content(root: Path, path: str, body: bytes) -> Entry:
    spool = root / Digest.of(path.encode("utf-8", "surrogateescape")).short
    spool.write_bytes(body)
    return Entry(
        path, "file", 0o644, mtime=1_650_000_000, size=len(body), open=lambda: os.open(spool, os.O_RDONLY)
    )


def base_entries(spool: Path) -> list[Entry]:
    t = 1_600_000_000
    capability = {"security.capability": bytes.fromhex("0100000200200000000000000000000000000000")}
    tool = content(spool, "usr/bin/tool", os.urandom(300_000))
    return [
        Entry("usr", "dir", 0o755, mtime=t),
        Entry("usr/bin", "dir", 0o755, mtime=t),
        Entry(tool.path, "file", 0o4755, 10, 20, t, tool.size, xattrs=capability, open=tool.open),
        Entry("usr/bin/same", "hardlink", 0o4755, 10, 20, t, target="usr/bin/tool"),
        Entry("bin", "symlink", 0o777, mtime=t, target="usr/bin"),
        Entry("var", "dir", 0o1777, 3, 4, t),
        content(spool, "var/one", b"1"),
        content(spool, "var/two", b"2"),
        Entry("old", "dir", 0o700, mtime=t),
        content(spool, "old/deep", b"3"),
        Entry("ünï", "dir", 0o755, mtime=t),
        Entry("ünï/" + "n" * 200, "dir", 0o755, mtime=t),
        content(spool, "ünï/" + "n" * 200 + "/" + "x" * 120, b"long"),
        content(spool, b"latin\xe9".decode("utf-8", "surrogateescape"), b"bytes"),
        Entry("fifo", "fifo", 0o622, 1, 2, t),
    ]  # fmt: skip


def change(root: Path) -> None:
    """What a RUN might do, on a mounted overlay."""
    (root / "var" / "one").unlink()
    shutil.rmtree(root / "old")
    (root / "old").mkdir()
    (root / "old" / "new").write_text("new")
    (root / "usr/bin/tool").rename(root / "usr/bin/moved")
    (root / "etc").mkdir()
    (root / "etc/conf").write_text("a=b")
    os.link(root / "etc/conf", root / "etc/conf.bak")
    os.chown(root / "var", 7, 8)
    (root / "bin").unlink()
    (root / "bin").mkdir()
    for path in (root / "etc", root / "old", root / "bin", root / "usr/bin"):
        os.utime(path, (1_660_000_000, 1_660_000_000))


@contextlib.contextmanager
def mounted(
    target: Path, lowers: Sequence[Path], upper: Path | None = None, work: Path | None = None
) -> Iterator[Path]:
    target.mkdir(exist_ok=True)
    if len(lowers) == 1 and upper is None:
        yield lowers[0]
        return
    data = linux.overlay_data([str(path) for path in lowers], str(upper or ""), str(work or ""))
    linux.mount("overlay", target, "overlay", 0, data)
    try:
        yield target
    finally:
        linux.umount2(target, linux.MNT_DETACH)


class Images:
    """Two layers of ours: a base, and what a command changed on an overlay above it."""

    def __init__(self, tmp: Path, compression: Compression) -> None:
        self.tmp = tmp
        self.store = LocalStore(tmp / "store")
        (tmp / "spool").mkdir()
        base = write_layer(self.store, base_entries(tmp / "spool"), compression=compression)
        lower, upper, work = self.unpack("base", base.descriptor), tmp / "upper", tmp / "work"
        upper.mkdir()
        work.mkdir()
        with mounted(tmp / "run", [lower], upper, work) as root:
            change(root)
            self.expected = facts(root)
        fd = os.open(upper, os.O_RDONLY | os.O_DIRECTORY)
        try:
            top = write_layer(self.store, diff_upper(fd), compression=compression)
        finally:
            os.close(fd)
        self.layers: list[Layer] = [base, top]

    def unpack(self, name: str, layer: Descriptor, store: LocalStore | None = None) -> Path:
        target = self.tmp / name
        target.mkdir()
        fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with (store or self.store).open(layer.digest) as stream:
                apply_layer(stream, fd, compression=MediaType.compression(layer.media_type))
        finally:
            os.close(fd)
        return target

    def layout(self) -> Path:
        """An OCI image layout with the image ``:latest``."""
        root = self.tmp / "layout"
        (root / "blobs" / "sha256").mkdir(parents=True)
        config = ImageConfig.parse(
            json.dumps(
                {
                    "architecture": "amd64", "os": "linux", "config": {},
                    "rootfs": {"type": "layers", "diff_ids": [str(layer.diff_id) for layer in self.layers]},
                }
            ).encode()
        ).to_bytes()  # fmt: skip
        manifest = Manifest(
            Descriptor(MediaType.OCI_CONFIG, Digest.of(config), len(config)),
            tuple(layer.descriptor for layer in self.layers),
        ).to_bytes()
        for digest in (
            self.store.put(config),
            self.store.put(manifest),
            *(x.descriptor.digest for x in self.layers),
        ):
            shutil.copy(self.store.path(digest), root / "blobs" / "sha256" / digest.hex)
        entry = Descriptor(
            MediaType.OCI_MANIFEST,
            Digest.of(manifest),
            len(manifest),
            {"org.opencontainers.image.ref.name": "latest"},
        )
        (root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry.to_json()]}))
        (root / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        return root


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_layers_unpack_to_what_was_there(tmp_path: Path, compression: Compression) -> None:
    images = Images(tmp_path, compression)
    lowers = [images.unpack(f"again{number}", layer.descriptor) for number, layer in enumerate(images.layers)]
    with mounted(tmp_path / "root", lowers[::-1]) as root:
        assert facts(root) == images.expected


def test_umoci_unpacks_the_same(tmp_path: Path) -> None:
    images = Images(tmp_path, "gzip")
    run("umoci", "unpack", "--image", f"{images.layout()}:latest", str(tmp_path / "bundle"))
    assert facts(tmp_path / "bundle" / "rootfs") == images.expected


def test_skopeo_copies_and_verifies(tmp_path: Path) -> None:
    images = Images(tmp_path, "gzip")
    run("skopeo", "copy", f"oci:{images.layout()}:latest", f"dir:{tmp_path / 'copy'}")
    copied = {path.name for path in (tmp_path / "copy").iterdir()}
    assert {layer.descriptor.digest.hex for layer in images.layers} <= copied


def test_what_umoci_packs_is_unpacked(tmp_path: Path) -> None:
    images = Images(tmp_path, "gzip")
    layout, bundle = images.layout(), tmp_path / "bundle"
    run("umoci", "unpack", "--image", f"{layout}:latest", str(bundle))
    rootfs = bundle / "rootfs"
    shutil.rmtree(rootfs / "old")
    (rootfs / "etc" / "conf").unlink()
    (rootfs / "etc" / "more").write_bytes(os.urandom(70_000))
    for path in (rootfs / "etc" / "more", rootfs / "etc"):  # whole seconds: umoci rounds, we cut
        os.utime(path, (1_670_000_000, 1_670_000_000))
    expected = facts(rootfs)
    run("umoci", "repack", "--image", f"{layout}:new", str(bundle))
    index = json.loads((layout / "index.json").read_text())
    found = next(
        item
        for item in index["manifests"]
        if item["annotations"]["org.opencontainers.image.ref.name"] == "new"
    )
    raw = json.loads((layout / "blobs/sha256" / found["digest"].removeprefix("sha256:")).read_text())
    manifest = Manifest.from_json(raw, MediaType.OCI_MANIFEST)
    theirs = LocalStore(tmp_path / "theirs")
    lowers = []
    for number, layer in enumerate(manifest.layers):
        theirs.put((layout / "blobs/sha256" / layer.digest.hex).read_bytes())
        lowers.append(images.unpack(f"their{number}", layer, theirs))
    assert len(lowers) == 3
    with mounted(tmp_path / "root", lowers[::-1]) as root:
        assert facts(root) == expected


def test_a_system_through_gnu_tar(tmp_path: Path) -> None:
    """Real trees: GNU tar → a layer → a directory, the same."""
    store = LocalStore(tmp_path / "store")
    command = ["tar", "--format=gnu", "-C", "/", "-cf", "-", "usr/sbin", "etc/ssl"]
    tar = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert tar.stdout is not None
    with tar.stdout as stream:
        layer = import_tar(store, stream, compression="zstd")  # type: ignore[arg-type]
    assert tar.wait() == 0
    target = tmp_path / "target"
    target.mkdir()
    fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    with store.open(layer.descriptor.digest) as blob:
        apply_layer(blob, fd, compression="zstd")
    os.close(fd)
    for path in ("usr/sbin", "etc/ssl"):
        assert facts(target / path) == facts(Path("/") / path)
