"""Steps that get more than others: the host's network, every capability, an SSH agent; and what a host adds to all."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from slipway.base.process import run
from slipway.build.policy import HOST_NETWORK, INSECURE
from slipway.build.surroundings import BUNDLE, Surroundings
from slipway.errors import Denied, Exhausted, Failed, Invalid
from slipway.testing.agents import ASK, SocketAgent, ssh_agent
from slipway.testing.builds import BuildBench
from slipway.testing.busybox import BUSYBOX
from slipway.testing.sandboxes import debian_tar

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not BUSYBOX.exists(), reason="needs busybox-static"),
]


# Network and security


@pytest.mark.parametrize("flag", ["--network=host", "--security=insecure"])
async def test_without_a_grant_it_is_denied_with_its_place(bench: BuildBench, flag: str) -> None:
    with pytest.raises(Denied, match=r"Dockerfile:2: RUN .* is not allowed in this project") as caught:
        await bench.build(f"FROM busybox\nRUN {flag} true\n")
    assert "slipway project build-policy" in caught.value.hint


async def test_a_cached_result_does_not_spare_the_grant(bench: BuildBench) -> None:
    text = "FROM busybox\nRUN --network=host true\n"
    await bench.build(text, granted=frozenset({HOST_NETWORK}))
    with pytest.raises(Denied):
        await bench.build(text)


async def test_the_hosts_network_is_the_hosts(bench: BuildBench) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        text = f"FROM busybox\nRUN --network=host nc -w 2 127.0.0.1 {port} -e true && ls /sys/class/net > /devices"
        made = await bench.build(text, granted=frozenset({HOST_NETWORK}))
        assert set(made.text("devices").split()) == set(os.listdir("/sys/class/net"))
        with pytest.raises(Failed):  # the same without: there is nobody at that port
            await bench.build(f"FROM busybox\nRUN nc -w 2 127.0.0.1 {port} -e true")


async def test_on_the_hosts_network_a_step_still_cannot_change_it(bench: BuildBench) -> None:
    with pytest.raises(Failed, match="Operation not permitted"):
        await bench.build(
            "FROM busybox\nRUN --network=host ip link add slipway-test type dummy",
            granted=frozenset({HOST_NETWORK}),
        )


async def test_insecure_has_every_capability_of_its_own_namespace_and_none_of_the_hosts(
    bench: BuildBench,
) -> None:
    every = (1 << (int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1)) - 1
    made = await bench.build(
        "FROM busybox\n"
        "RUN --security=insecure grep -e CapEff -e Seccomp: /proc/self/status > /status\n"
        "RUN --security=insecure unshare -m sh -c 'mount -t tmpfs none /mnt && echo yes > /mounted' 2>/error; true\n"
        "RUN --security=insecure mknod /disk b 8 0 2>/dev/null && echo made > /node; true\n"
        "RUN --security=insecure echo 1 > /proc/sys/kernel/sysrq && echo changed > /sysrq; true\n"
        "RUN grep -e CapEff /proc/self/status > /after\n",
        granted=frozenset({INSECURE}),
    )
    status = dict(line.split(":", 1) for line in made.text("status").splitlines())
    assert int(status["CapEff"], 16) == every
    assert status["Seccomp"].strip() == "0"
    assert made.root.lstat("node") is None, "a device of the host could be made"
    assert made.root.lstat("sysrq") is None, "a setting of the host could be changed"
    assert int(made.text("after").split()[1], 16) != every


# SSH


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[SocketAgent]:
    if shutil.which("ssh-agent") is None:
        pytest.skip("needs openssh-client")
    with ssh_agent(tmp_path, "the key") as path:
        yield SocketAgent(path)


async def test_a_step_sees_the_agents_keys_signs_and_cannot_remove_them(
    bench: BuildBench, agent: SocketAgent
) -> None:
    bench.keep("debian", debian_tar().read_bytes(), {"Env": ["PATH=/usr/bin:/bin"]})
    made = await bench.build(
        f"FROM debian\nCOPY <<'EOF' /ask.pl\n{ASK}EOF\n"
        "RUN --mount=type=ssh perl /ask.pl list > /keys; perl /ask.pl clear > /removed; "
        "perl /ask.pl sign > /signed; echo $SSH_AUTH_SOCK > /where; stat -c '%u:%g %a' $SSH_AUTH_SOCK > /owner\n",
        agents={"default": agent},
    )
    assert made.text("where") == "/run/buildkit/ssh_agent.0\n"
    assert made.text("owner") == "0:0 600\n"
    keys = made.root.read("keys")
    assert keys is not None
    assert keys[0] == 12, "no list of identities"
    assert b"the key" in keys
    assert made.text("removed") == "5\n"
    assert made.text("signed") == "14\n"
    listed = await run(["ssh-add", "-l"], env={**os.environ, "SSH_AUTH_SOCK": str(agent.path)})
    assert "the key" in listed.stdout.decode()


async def test_owner_mode_and_target_of_the_socket(bench: BuildBench, agent: SocketAgent) -> None:
    made = await bench.build(
        "FROM busybox\nRUN --mount=type=ssh,id=other,target=/s,mode=0640,uid=7,gid=8 "
        "stat -c '%u:%g %a %F' /s > /owner; echo $SSH_AUTH_SOCK > /where\n",
        agents={"other": agent},
    )
    assert made.text("owner") == "7:8 640 socket\n"
    assert made.text("where") == "/s\n"
    assert made.root.lstat("s") is None


async def test_a_missing_agent(bench: BuildBench) -> None:
    made = await bench.build('FROM busybox\nRUN --mount=type=ssh echo "<$SSH_AUTH_SOCK>" > /where\n')
    assert made.text("where") == "<>\n"
    with pytest.raises(Invalid, match="needs the SSH agent 'default'"):
        await bench.build("FROM busybox\nRUN --mount=type=ssh,required true\n")


# What a host adds


async def test_certificates_and_proxies_reach_a_step_and_stay_out_of_the_image(bench: BuildBench) -> None:
    pem = b"-----BEGIN CERTIFICATE-----\nour own\n-----END CERTIFICATE-----\n"
    bench.solver.surroundings = Surroundings(pem, {"https_proxy": "http://proxy:3128"})
    made = await bench.build(
        "FROM busybox\n"
        "RUN mkdir -p /etc/ssl/certs /etc/apt/apt.conf.d && echo the image > /etc/ssl/certs/ca-certificates.crt\n"
        "RUN cat $SSL_CERT_FILE > /seen; echo $https_proxy > /proxy; cat /etc/apt/apt.conf.d/* > /apt\n"
        "ENV https_proxy=mine\n"
        "RUN echo $https_proxy > /own\n"
    )
    assert made.text("seen") == "the image\n" + pem.decode()
    assert made.text("proxy") == "http://proxy:3128\n"
    assert made.text("own") == "mine\n"
    assert BUNDLE in made.text("apt")
    assert not [path for path in made.paths() if "slipway" in path]
    assert made.solved.config.environment == {"PATH": "/bin", "https_proxy": "mine"}


async def test_they_are_in_no_key(bench: BuildBench) -> None:
    text = "FROM busybox\nRUN echo 1 > /one\n"
    await bench.build(text)
    bench.solver.surroundings = Surroundings(b"-----BEGIN CERTIFICATE-----", {"http_proxy": "p"})
    assert not (await bench.build(text)).ran


def test_a_bundle_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("no certificate")
    for path in (tmp_path / "x", tmp_path / "missing"):
        with pytest.raises(Invalid, match=r"build\.ca_bundle"):
            Surroundings.of(str(path), "", "", "")


# Disk


@pytest.mark.parametrize("mount", ["", "--mount=target=/d,rw", "--mount=type=cache,target=/d"])
async def test_a_step_that_fills_the_disk_is_ended(bench: BuildBench, mount: str) -> None:
    bench.limits = replace(bench.limits, disk=64 << 20)
    text = "mkdir -p /d; while true; do dd if=/dev/zero bs=1M count=16 >> /d/big 2>/dev/null; sleep 0.1; done"
    with pytest.raises(Exhausted, match="wrote more than its limit of 64 MiB"):
        await bench.build(f"FROM busybox\nRUN {mount} {text}\n")


async def test_what_a_cache_had_before_counts_for_nobody(bench: BuildBench) -> None:
    run = "FROM busybox\nRUN --mount=type=cache,target=/c"
    await bench.build(f"{run} dd if=/dev/zero of=/c/big bs=1M count=80 2>/dev/null")
    bench.limits = replace(bench.limits, disk=64 << 20)
    made = await bench.build(f"{run} sleep 2.5; touch /done")
    assert made.root.lstat("done") is not None
