"""A node from inside: the program that is process 1 of a node's namespaces and keeps its daemons running.

Run as ``python -m slipway.testing.kubernetes.machine NAME`` in the node's control groups. When it dies, the kernel
kills everything in the node with it: that is how a node loses its power.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from slipway.base import linux
from slipway.testing.kubernetes.site import BINARIES, CONTAINERD, KUBELET, Node

# What a kubelet wants of the kernel. It is shown the values, and the host keeps its own.
_TUNABLES = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/keys/root_maxbytes": 25_000_000,
}
_CGROUPS = Path("/sys/fs/cgroup")
_DISK = 64 << 30  # of which only what is written takes room


def daemons(node: Node) -> dict[str, list[str]]:
    """The command lines of the node's daemons, by name."""
    where = node.directory
    return {
        "containerd": ["containerd", "--config", f"{where}/containerd.toml", "--log-level", "warn"],
        "kubelet": [
            f"{BINARIES}/kubelet", f"--config={where}/kubelet.json", f"--kubeconfig={where}/kubelet.kubeconfig",
            f"--hostname-override={node.name}", f"--node-ip={node.address}", f"--root-dir={KUBELET}",
            f"--cert-dir={where}/kubelet-pki", "--container-runtime=remote",
            f"--container-runtime-endpoint=unix://{CONTAINERD}",
            f"--volume-plugin-dir={where}/volume-plugins", "--housekeeping-interval=10s", "--v=1",
        ],
        "kube-proxy": [f"{BINARIES}/kube-proxy", f"--config={where}/proxy.json", "--v=1"],
    }  # fmt: skip


def main(name: str) -> None:
    node = Node.named(name)
    hierarchies = sorted(
        path.name
        for path in _CGROUPS.iterdir()
        if path.is_dir() and not path.is_symlink() and path.name != "unified"
    )
    with open(f"/run/netns/{node.namespace}", "rb") as network:
        linux.setns(network.fileno(), linux.CLONE_NEWNET)
    linux.unshare(
        linux.CLONE_NEWNS
        | linux.CLONE_NEWPID
        | linux.CLONE_NEWUTS
        | linux.CLONE_NEWIPC
        | linux.CLONE_NEWCGROUP
    )
    if child := os.fork():
        (node.directory / "pid").write_text(str(child))
        os._exit(0)
    socket.sethostname(name)
    _mount(node, hierarchies)
    _keep(node)


def _mount(node: Node, hierarchies: list[str]) -> None:
    """The node's view of the file system: the host's, with everything that is a machine's own laid over it."""
    where = node.directory
    linux.mount("", "/", "", linux.MS_REC | linux.MS_PRIVATE)
    linux.mount("proc", "/proc", "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
    linux.mount("sysfs", "/sys", "sysfs", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
    linux.mount("tmpfs", _CGROUPS, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=755")
    for controllers in hierarchies:
        (_CGROUPS / controllers).mkdir()
        data = "none,name=systemd" if controllers == "systemd" else controllers
        linux.mount("cgroup", _CGROUPS / controllers, "cgroup", linux.MS_NOSUID, data)
    linux.mount(
        "tmpfs", "/run", "tmpfs", linux.MS_NOSUID, "mode=755"
    )  # empty after each start, as after a boot
    for directory in ("netns", "lock", "cni", "tunables"):
        Path("/run", directory).mkdir()
    for key, value in _TUNABLES.items():
        file = Path("/run/tunables", key.replace("/", "."))
        file.write_text(f"{value}\n")
        linux.mount(str(file), f"/proc/sys/{key}", "", linux.MS_BIND)
    for source, target in (("log", "/var/log"), ("hosts", "/etc/hosts")):
        linux.mount(str(where / source), target, "", linux.MS_BIND)
    _mount_disk(where / "disk")
    linux.mount(
        "", "/", "", linux.MS_REC | linux.MS_SHARED
    )  # Pods may ask for mounts that are seen both ways


def _mount_disk(image: Path) -> None:
    """A disk of the node's own for what Pods write, with a file system as machines have it.

    The test machine's may be without a journal: ext4 then looks at every file that was removed in the last minutes
    before it makes a new one, and a Pod that unpacks an image after another has gone takes several times as long.
    """
    if not image.exists():
        with image.open("wb") as disk:
            disk.truncate(_DISK)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(KUBELET)], check=True)


def _keep(node: Node) -> None:
    """Start the daemons, start again what ends, and bury every orphan. Never returns."""
    # Python as process 1 has no default action for signals, so a stray SIGTERM does nothing.
    commands, running = daemons(node), dict[int, tuple[str, subprocess.Popen[bytes]]]()
    environment = {"PATH": os.environ["PATH"], "HOME": "/root"}

    def begin(name: str) -> None:
        with (node.directory / f"{name}.log").open("ab") as log:
            started = subprocess.Popen(
                commands[name], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                start_new_session=True,
            )  # fmt: skip
            running[started.pid] = name, started

    for name in commands:
        begin(name)
        end = time.monotonic() + 20
        while not Path(CONTAINERD).exists() and time.monotonic() < end:
            time.sleep(0.05)
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid in running:
            name, _ = running.pop(pid)
            print(f"{name} ended with status {os.waitstatus_to_exitcode(status)}", flush=True)
            time.sleep(1)
            begin(name)


if __name__ == "__main__":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    main(sys.argv[1])
