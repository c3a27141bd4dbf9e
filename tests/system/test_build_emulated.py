"""A RUN for another architecture, by an emulator that is registered with the kernel for the length of the test."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.build.base_images import BaseImage
from slipway.build.emulation import can_run
from slipway.errors import Unsupported
from slipway.layers import import_tar
from slipway.oci import Digest, ImageConfig, Platform
from slipway.snapshots import LayerRef
from slipway.testing.builds import BuildBench
from slipway.testing.busybox import BUSYBOX

_EMULATOR = shutil.which("qemu-aarch64-static")
_FORMATS = Path("/proc/sys/fs/binfmt_misc")
_MAGIC = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
_MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
_ARM = Platform("linux", "arm64")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not BUSYBOX.exists(), reason="needs busybox-static"),
    pytest.mark.skipif(_EMULATOR is None, reason="needs qemu-user-static"),
    pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="needs mmdebstrap"),
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="arm64 is no other architecture here"),
]


@pytest.fixture
def emulated() -> Iterator[None]:
    """As qemu-user-static's own package does it: opened at registration (F), so that no image needs it."""
    if can_run(_ARM):
        yield
        return
    mounted = (_FORMATS / "register").exists()
    if (
        not mounted
        and subprocess.run(["mount", "-t", "binfmt_misc", "none", _FORMATS], check=False).returncode
    ):
        pytest.skip("binfmt_misc cannot be mounted here")
    try:
        try:
            (_FORMATS / "register").write_text(f":qemu-aarch64:M::{_MAGIC}:{_MASK}:{_EMULATOR}:OCF")
        except OSError as error:
            pytest.skip(f"no format can be registered here: {error}")
        yield
        (_FORMATS / "qemu-aarch64").write_text("-1")
    finally:
        if not mounted:
            subprocess.run(["umount", _FORMATS], check=False)


@pytest.fixture(scope="module")
def arm_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with nothing but the distribution's static busybox for arm64."""
    archive = tmp_path_factory.mktemp("arm") / "root.tar"
    words = [
        "--quiet",
        "--variant=extract",
        "--architectures=arm64",
        "--include=busybox-static",
        "--format=tar",
    ]
    done = subprocess.run(["mmdebstrap", *words, "bookworm", archive], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no packages for arm64: {done.stderr.decode(errors='replace')[-200:]}")
    return archive


def keep(bench: BuildBench, archive: Path) -> None:
    with archive.open("rb") as stream:
        layer = import_tar(bench.blobs, stream)
    config = ImageConfig(_ARM, (layer.diff_id,), {"Env": ["PATH=/usr/bin:/bin"]})
    layers = (LayerRef(layer.diff_id, layer.descriptor),)
    bench.images["arm"] = BaseImage(Digest.of(b"arm"), config, layers)


_TEXT = (
    'FROM arm\nRUN ["/bin/busybox", "sh", "-c", "busybox uname -m > /machine; busybox id -u >> /machine"]\n'
)


async def test_a_run_for_another_architecture(bench: BuildBench, arm_root: Path, emulated: None) -> None:
    keep(bench, arm_root)
    made = await bench.build(_TEXT, platform=_ARM)
    assert made.text("machine").split() == ["aarch64", "0"]


async def test_without_an_emulator_it_says_what_is_needed(bench: BuildBench, arm_root: Path) -> None:
    if can_run(_ARM):
        pytest.skip("an emulator is registered on this machine")
    keep(bench, arm_root)
    with pytest.raises(Unsupported, match="cannot run programs for linux/arm64") as caught:
        await bench.build(_TEXT, platform=_ARM)
    assert "qemu-user-static" in caught.value.hint
