"""RUN --device: what the project was granted is there, and nothing else of the host."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.build.policy import BuildPolicy
from slipway.errors import Denied, Invalid, NotFound, Unsupported
from slipway.testing.builds import BuildBench
from slipway.testing.busybox import BUSYBOX

_NODE = "/dev/fuse"
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not BUSYBOX.exists(), reason="needs busybox-static"),
    pytest.mark.skipif(not Path(_NODE).exists(), reason=f"needs {_NODE}"),
]


@pytest.fixture
def kind(tmp_path: Path) -> Iterator[str]:
    """The host knows three devices of this kind."""
    name = f"test{os.getpid()}.example.org/thing"
    directory = Path("/var/run/cdi")
    made = not directory.exists()
    directory.mkdir(exist_ok=True)
    file = directory / f"slipway-test-{os.getpid()}.json"
    devices = [
        {"name": "one", "containerEdits": {"deviceNodes": [{"path": "/dev/deep/one", "hostPath": _NODE}],
                                           "env": ["ONE=given"]}},
        {"name": "hooked", "containerEdits": {"hooks": [{"hookName": "createRuntime", "path": "/bin/true"}]}},
        {"name": "disk", "containerEdits": {"deviceNodes": [{"path": "/dev/d", "hostPath": "/dev/loop0"}]}},
    ]  # fmt: skip
    file.write_text(json.dumps({"cdiVersion": "0.6.0", "kind": name, "devices": devices}))
    yield name
    file.unlink()
    if made:
        directory.rmdir()


async def test_a_granted_device_is_there_and_can_be_opened_by_anybody(bench: BuildBench, kind: str) -> None:
    number = os.stat(_NODE).st_rdev
    shown = f"{os.major(number):x}:{os.minor(number):x}"
    made = await bench.build(
        "FROM busybox\nRUN mkdir -m 777 /out\nUSER 1234\n"
        f"RUN --device={kind}=one stat -c '%t:%T' /dev/deep/one > /out/n; exec 3<>/dev/deep/one && "
        "echo $ONE > /out/env\n"
        f"RUN --device=name={_NODE},required=true stat -c '%t:%T' {_NODE} > /out/plain\n"
        "RUN ls /dev > /out/after; echo \"-$ONE-\" >> /out/after\n",
        granted=frozenset({f"device={kind}", f"device={_NODE}"}),
    )  # fmt: skip
    assert [made.text(f"out/{name}").strip() for name in ("n", "plain", "env")] == [shown, shown, "given"]
    after = made.text("out/after").split()
    assert "fuse" not in after
    assert "deep" not in after
    assert after[-1] == "--"
    assert [entry.path for entry in made.root.walk("") if stat.S_ISCHR(entry.mode)] == []


async def test_without_a_grant_a_required_device_is_denied_and_an_optional_one_missing(
    bench: BuildBench, kind: str
) -> None:
    for granted in ((), (f"device={kind}=hooked",), ("device=other.org/thing",)):
        with pytest.raises(
            Denied, match=r"Dockerfile:2: RUN --device=.* is not allowed in this project"
        ) as caught:
            await bench.build(
                f"FROM busybox\nRUN --device={kind}=one,required true", granted=frozenset(granted)
            )
        assert "build-policy PROJECT --allow device=" in caught.value.hint
    text = f"FROM busybox\nRUN --device={kind}=one ls /dev > /devices"
    made = await bench.build(text)
    assert "deep" not in made.text("devices")
    assert "running without it" in made.log
    granted_now = await bench.build(text, granted=frozenset({f"device={kind}=one"}))
    assert "deep" in granted_now.text("devices"), "what was made without the device was taken for it"


async def test_a_cached_result_does_not_spare_the_grant(bench: BuildBench, kind: str) -> None:
    text = f"FROM busybox\nRUN --device={kind}=one,required true"
    await bench.build(text, granted=frozenset({f"device={kind}"}))
    with pytest.raises(Denied):
        await bench.build(text)


async def test_what_is_no_device_for_a_build_is_refused(bench: BuildBench, kind: str) -> None:
    everything = frozenset(
        {f"device={kind}", "device=/dev/loop0", "device=/dev/none", "device=no.org/such=x"}
    )
    for name, error, text in (
        (f"{kind}=hooked", Unsupported, "needs hooks"),
        (f"{kind}=disk", Unsupported, "no character device"),
        ("/dev/loop0", Unsupported, "no character device"),
        ("/dev/none", NotFound, "has no /dev/none"),
        ("no.org/such=x", NotFound, "has no device"),
    ):
        with pytest.raises(error, match=text):
            await bench.build(f"FROM busybox\nRUN --device={name},required true", granted=everything)


def test_which_grants_there_are() -> None:
    for name in ("device=vendor.com/class=name", "device=vendor.com/class", "device=/dev/dri/card0"):
        BuildPolicy(allow=(name,)).checked()
    for name in ("device=", "device=name", "device=/etc/passwd", "device=/dev/../etc/passwd", "device=/dev/"):
        with pytest.raises(Invalid, match="not an entitlement"):
            BuildPolicy(allow=(name,)).checked()
