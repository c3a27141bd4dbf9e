"""A disk that fills up while images are pushed: refused with the reason, nothing damaged, and it goes on by itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.testing.registry import Serving, digest_of, serving

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(300)]
_SIZE = 24 << 20
_PIECE = 3 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "none", str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


async def test_pushes_to_a_full_disk_are_refused_and_go_on_when_there_is_room(small_disk: Path) -> None:
    async with serving(small_disk) as server:
        layer = os.urandom(_PIECE)
        image = await server.manifest("lib/x", layer, tag="kept")
        (small_disk / "ballast").write_bytes(b"x" * 1024)
        lost = []
        for _ in range(2 * _SIZE // _PIECE):
            data = os.urandom(_PIECE)
            answer = await server("POST", f"/v2/lib/x/blobs/uploads/?digest={digest_of(data)}", data)
            if answer.status == 201:
                lost.append(data)
                continue
            assert (answer.status, answer.code) == (507, "TOOMANYREQUESTS"), answer.body
            assert b"full" in answer.body
        assert 3 <= len(lost) < _SIZE // _PIECE
        with (small_disk / "ballast").open("ab", buffering=0) as ballast:  # to the last byte
            try:
                while ballast.write(os.urandom(4096)):
                    pass
            except OSError:
                pass
        begun = await server("POST", "/v2/lib/y/blobs/uploads/")
        manifest = await server("PUT", "/v2/lib/y/manifests/1", b"{}")
        assert begun.status in (202, 507), begun.body
        assert manifest.status in (400, 507), manifest.body
        await whole(server, image["digest"], [layer, *lost])
        (small_disk / "ballast").unlink()
        assert list(server.registry.blobs.fsck()) == []
        again = await server.manifest("lib/y", b"a little", tag="1")  # nobody did anything to the server
        assert (await server("GET", f"/v2/lib/y/manifests/{again['digest']}")).status == 200
        left = [upload for upload, _ in server.registry.blobs.uploads()]
        assert len(left) == (begun.status == 202), "what a refused push had sent is gone"
    assert not list((small_disk / "content" / "ingest").iterdir())


async def whole(server: Serving, digest: str, blobs: list[bytes]) -> None:
    """What was acknowledged before is there."""
    answer = await server("GET", "/v2/lib/x/manifests/kept")
    assert (answer.status, digest_of(answer.body)) == (200, digest)
    for data in blobs:
        assert (await server("GET", f"/v2/lib/x/blobs/{digest_of(data)}")).body == data
