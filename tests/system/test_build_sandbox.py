"""What a RUN is, sees, may do and leaves, on a real kernel."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from slipway.base import capabilities
from slipway.build.sandbox import Bind, RunStep
from slipway.content import LocalStore
from slipway.errors import Failed
from slipway.snapshots import SnapshotStore
from slipway.testing.sandboxes import PATH, Bench, unpack_debian_root

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack_debian_root(tmp_path_factory.mktemp("images") / "debian")


@pytest.fixture
async def bench(tmp_path: Path, debian: Path) -> AsyncIterator[Bench]:
    made = await Bench(tmp_path, [debian]).open()
    yield made
    await made.close()


# Who a RUN is


async def test_root_inside_is_a_subordinate_user_outside(bench: Bench) -> None:
    sleeping = asyncio.create_task(bench.run("whoami; exec sleep 30.25"))
    pid = await _wait_for_process(b"sleep\x0030.25\x00")
    status = Path(f"/proc/{pid}/status").read_text()
    base = bench.open_sandbox.uid_base
    assert f"Uid:\t{base}\t{base}\t{base}\t{base}\n" in status
    assert f"Gid:\t{base}\t{base}\t{base}\t{base}\n" in status
    os.kill(pid, 9)
    ran = await sleeping
    assert ran.stdout == "root\n"
    assert ran.status == 137


async def test_it_has_dockers_capabilities_and_system_calls_and_no_more(bench: Bench) -> None:
    status = _status(await bench.check("cat /proc/self/status"))
    mask = f"{capabilities.mask(capabilities.DEFAULT):016x}"
    assert mask == "00000000a80425fb"
    assert (status["CapPrm"], status["CapEff"], status["CapBnd"]) == (mask, mask, mask)
    assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "0")


async def test_a_user_has_groups_and_no_capabilities(bench: Bench) -> None:
    text = await bench.check("id -u; id -g; id -G; cat /proc/self/status", user=(1000, 1001, (1001, 7)))
    assert text.startswith("1000\n1001\n1001 7\n")
    status = _status(text)
    assert int(status["CapPrm"], 16) == int(status["CapEff"], 16) == 0
    assert status["CapBnd"] == "00000000a80425fb"


async def test_setuid_programs_and_changing_the_user_work(bench: Bench) -> None:
    assert await bench.check("su nobody -s /bin/sh -c 'id -un'") == "nobody"
    made = await bench.run("cp /usr/bin/id /usr/bin/rootid && chmod u+s /usr/bin/rootid")
    lowers = [made.upper, *bench.lowers]
    ran = await bench.run(["rootid", "-u"], user=(1000, 1000, ()), lowers=lowers)
    assert ran.stdout == "0\n"


async def test_ids_outside_the_range_are_refused(bench: Bench) -> None:
    with pytest.raises(Failed, match="could not be set up"):
        await bench.run("true", user=(70000, 0, ()))


# What it sees


async def test_it_sees_its_own_processes_only(bench: Bench) -> None:
    other = asyncio.create_task(bench.run("exec sleep 31.5"))
    pid = await _wait_for_process(b"sleep\x0031.5\x00")
    assert await bench.check("set -- /proc/[0-9]*; echo $# $$") == "1 1"
    os.kill(pid, 9)
    await other


async def test_it_sees_nothing_of_the_host(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_TEST_SECRET", "hunter2")
    mounts = await bench.check("cat /proc/self/mountinfo")
    assert str(bench.directory) not in mounts
    assert len([line for line in mounts.splitlines() if line.split()[4] == "/"]) == 1
    assert "hunter2" not in await bench.check("cat /proc/*/environ")
    assert await bench.check(f"ls -d {bench.directory} 2>&1 || true") == (
        f"ls: cannot access '{bench.directory}': No such file or directory"
    )
    assert await bench.check("env | sort", env=[("ONE", "1")]) == (
        "ONE=1\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nPWD=/"
    )


async def test_it_inherits_three_descriptors(bench: Bench) -> None:
    listing = await bench.check("ls -l /proc/$$/fd")
    assert [line.split()[8] for line in listing.splitlines()[1:]] == ["0", "1", "2"]
    assert "0 -> /dev/null" in listing


async def test_without_a_network_there_is_only_the_loopback(bench: Bench) -> None:
    assert await bench.check("ls /sys/class/net; cat /sys/class/net/lo/flags") == "lo\n0x9"


async def test_steps_share_no_memory_files_and_no_host_name(bench: Bench) -> None:
    await bench.check("touch /dev/shm/left /tmp/left; ipcmk -M 64")
    assert await bench.check("ls /dev/shm /tmp; wc -l < /proc/sysvipc/shm; hostname") == (
        "/dev/shm:\n\n/tmp:\n1\nslipway-build"
    )


async def test_devices_work_and_are_few(bench: Bench) -> None:
    assert await bench.check(
        "head -c 3 /dev/zero | wc -c; echo x > /dev/null; head -c 1 /dev/urandom | wc -c"
    ) == ("3\n1")
    assert (await bench.check("ls /dev")).split() == [
        "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout",
        "tty", "urandom", "zero",
    ]  # fmt: skip
    assert await bench.check("stat -c %U:%G /dev/null /dev/shm /dev/pts | sort -u") == "root:root"
    user = (1000, 1000, ())
    assert await bench.check("echo out > /dev/stdout; echo err > /dev/stderr", user=user) == "out"


# What it may not do


@pytest.mark.parametrize(
    "command",
    [
        "mount -t tmpfs none /mnt",
        "mount --bind /etc /mnt",
        "umount /proc",
        "mount -o remount,rw /sys",
        "unshare --user true",
        "unshare --mount true",
        "mknod /tmp/disk b 254 0",
        "echo 1 > /proc/sys/kernel/sysrq",
        "echo b > /proc/sysrq-trigger",
        "echo 0 > /sys/kernel/mm/ksm/run",
        "echo x > /etc/resolv.conf",
        "hostname other",
        "cat /proc/kcore | grep -q .",
        "cat /proc/keys | grep -q .",
        "ls /sys/firmware | grep -q .",
        "echo -500 > /proc/self/oom_score_adj",
        "date --set 2001-01-01",
        "dd if=/dev/mem bs=1 count=1",
    ],
)
async def test_forbidden(bench: Bench, command: str) -> None:
    assert (await bench.run(command)).status != 0


async def test_device_nodes_of_an_image_cannot_be_opened(bench: Bench, tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    layer.mkdir()
    os.mknod(layer / "disk", 0o666 | stat.S_IFBLK, os.stat("/dev/null").st_rdev)
    os.mknod(layer / "zero", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    ran = await bench.run("head -c 1 /zero", lowers=[layer, *bench.lowers])
    assert ran.status != 0
    assert "Permission denied" in ran.stderr


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
async def test_an_image_that_redirects_a_system_directory_is_refused(
    bench: Bench, tmp_path: Path, name: str
) -> None:
    layer = tmp_path / "layer"
    layer.mkdir()
    (layer / name).symlink_to("../../../../etc")
    with pytest.raises(Failed, match="could not be set up"):
        await bench.run("true", lowers=[layer, *bench.lowers])


# What it leaves


async def test_ids_on_disk_are_the_containers_own(bench: Bench) -> None:
    ran = await bench.run(
        "touch /zero; touch /user && chown 1000:1001 /user; mkdir -p /opt/a/b; ln /zero /again"
    )
    found = {name: (ran.upper / name).lstat() for name in ("zero", "user", "opt/a/b", "again")}
    assert (found["zero"].st_uid, found["zero"].st_gid) == (0, 0)
    assert (found["user"].st_uid, found["user"].st_gid) == (1000, 1001)
    assert (found["opt/a/b"].st_uid, found["opt"].st_uid if "opt" in found else 0) == (0, 0)
    assert found["again"].st_ino == found["zero"].st_ino
    assert await bench.check("stat -c %u:%g /user", lowers=[ran.upper, *bench.lowers]) == "1000:1001"


async def test_deleting_leaves_a_whiteout_and_a_replaced_directory_is_opaque(bench: Bench) -> None:
    ran = await bench.run("rm /etc/hostname; rm -r /etc/apt; mkdir /etc/apt; touch /etc/apt/new")
    whiteout = (ran.upper / "etc/hostname").lstat()
    assert stat.S_ISCHR(whiteout.st_mode)
    assert whiteout.st_rdev == 0
    assert os.getxattr(ran.upper / "etc/apt", "trusted.overlay.opaque") == b"y"
    lowers = [ran.upper, *bench.lowers]
    assert (
        await bench.check("ls /etc/apt; ls /etc/hostname 2>/dev/null || echo gone", lowers=lowers)
        == "new\ngone"
    )


async def test_a_directory_of_the_image_can_be_renamed(bench: Bench) -> None:
    before = await bench.check("cd /etc/apt && find . | sort")
    ran = await bench.run("mv /etc/apt /etc/renamed")
    assert ran.status == 0
    lowers = [ran.upper, *bench.lowers]
    assert (
        await bench.check("cd /etc/renamed && find . | sort; ls -d /etc/apt || true", lowers=lowers) == before
    )


async def test_nothing_of_ours_is_in_the_upper_directory(bench: Bench) -> None:
    ran = await bench.run("cat /etc/resolv.conf /etc/hosts > /dev/null; ls /proc /sys /dev > /dev/null")
    assert ran.changes == []
    ran = await bench.run("touch /etc/new")
    assert ran.changes == ["etc", "etc/new"]


async def test_mount_points_an_image_lacks_leave_no_trace(bench: Bench, tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    (layer / "etc").mkdir(parents=True, mode=0o751)
    os.mknod(layer / "etc/resolv.conf", stat.S_IFCHR, os.makedev(0, 0))  # deleted
    (layer / "etc/hosts").symlink_to("../run/nowhere")
    os.chown(layer / "etc", 5, 6)
    (layer / "etc").chmod(0o751)
    lowers = [layer, *bench.lowers]
    ran = await bench.run("test ! -L /etc/hosts && grep localhost /etc/hosts; touch /etc/new", lowers=lowers)
    assert "127.0.0.1 localhost" in ran.stdout
    assert ran.changes == ["etc", "etc/new"]
    found = (ran.upper / "etc").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (5, 6, 0o751)
    assert (
        await bench.check("readlink /etc/hosts; ls /etc/resolv.conf || true", lowers=lowers)
        == "/etc/resolv.conf"
    )


async def test_a_root_from_scratch(bench: Bench, tmp_path: Path, debian: Path) -> None:
    layer = tmp_path / "layer"
    layer.mkdir()
    (layer / "ldconfig").write_bytes((debian / "usr/sbin/ldconfig").read_bytes())
    (layer / "ldconfig").chmod(0o755)
    ran = await bench.run(["/ldconfig", "--version"], lowers=[layer])
    assert ran.stdout.startswith("ldconfig ")
    assert ran.changes == []
    ran = await bench.run("true", lowers=[])
    assert (ran.status, ran.stderr) == (127, "exec: '/bin/sh': no such file or directory\n")


async def test_binds_keep_ids_and_leave_no_trace(bench: Bench, tmp_path: Path) -> None:
    cache, secret = tmp_path / "cache", tmp_path / "secret"
    cache.mkdir()
    secret.write_text("s3cret")
    mounts = [Bind(cache, "/root/.cache/x", read_only=False), Bind(secret, "/run/secrets/one")]
    ran = await bench.run(
        "cat /run/secrets/one && touch /root/.cache/x/kept && ! touch /run/secrets/one", mounts=mounts
    )
    assert (ran.status, ran.stdout, ran.changes) == (0, "s3cret", [])
    assert (cache / "kept").stat().st_uid == 0


async def test_file_capabilities_hold_in_another_workers_range(
    bench: Bench, tmp_path: Path, debian: Path
) -> None:
    tools = [
        Bind(Path(f"/usr/sbin/{name}").resolve(), f"/usr/local/sbin/{name}", mapped=False)
        for name in ("setcap", "getcap")
    ]
    made = await bench.run(
        "cp /usr/bin/id /usr/bin/tool && setcap cap_net_raw+ep /usr/bin/tool", mounts=tools
    )
    assert made.status == 0, made.stderr
    other = await Bench(tmp_path, [made.upper, debian]).open()
    try:
        assert other.open_sandbox.uid_base != bench.open_sandbox.uid_base
        assert await other.check("getcap /usr/bin/tool", mounts=tools) == "/usr/bin/tool cap_net_raw=ep"
    finally:
        await other.close()


async def test_a_step_over_a_prepared_snapshot_becomes_a_layer(bench: Bench, tmp_path: Path) -> None:
    """The seam to ``slipway.snapshots``: what a step leaves commits, and the next step stands on it."""
    store = SnapshotStore(tmp_path / "snapshots", LocalStore(tmp_path / "blobs"))
    active = store.prepare(None)
    step = RunStep(
        bench.lowers, active, ["sh", "-c", "echo one > /one; rm /etc/hostname; sync"], [("PATH", PATH)],
        "/", 0, 0, (), "none",
    )  # fmt: skip
    assert await bench.open_sandbox.run(step, lambda stream, data: None) == 0
    committed = store.commit(active)
    assert committed.chain is not None
    assert committed.layer is not None
    lowers = [*store.lowers(committed.chain), *bench.lowers]
    assert await bench.check("cat /one; test -e /etc/hostname || echo gone", lowers=lowers) == "one\ngone"
    chain = store.root / "layers" / committed.chain.hex
    assert sorted(path.name for path in chain.iterdir()) == ["fs", "meta.json"]


# Real tools


async def test_package_tools_work(bench: Bench) -> None:
    assert (await bench.check("apt-get --version")).startswith("apt ")
    assert "ii  bash" in await bench.check("dpkg -l")
    ran = await bench.run(
        "set -e; mkdir -p /tmp/p/DEBIAN /tmp/p/opt; echo hi > /tmp/p/opt/hello; "
        "printf 'Package: p\\nVersion: 1\\nArchitecture: all\\nMaintainer: x\\nDescription: x\\n' "
        "> /tmp/p/DEBIAN/control; "
        "dpkg-deb --build /tmp/p /tmp/p.deb; dpkg -i /tmp/p.deb; cat /opt/hello"
    )
    assert ran.status == 0, ran.stderr
    assert ran.stdout.endswith("hi\n")
    assert (ran.upper / "opt/hello").stat().st_uid == 0


async def test_users_can_be_added(bench: Bench) -> None:
    ran = await bench.run("useradd --create-home --uid 1234 ann && su ann -c 'touch ~/file; id -u'")
    assert (ran.status, ran.stdout) == (0, "1234\n")
    assert (ran.upper / "home/ann/file").stat().st_uid == 1234


async def _wait_for_process(cmdline: bytes) -> int:
    for _ in range(6000):
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if path.read_bytes() == cmdline:
                    return int(path.parent.name)
            except OSError:
                continue
        await asyncio.sleep(0.01)
    raise AssertionError(f"no process {cmdline!r}")


def _status(text: str) -> dict[str, str]:
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
