"""A real ssh-agent with one key, and how a test in this process asks it."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SocketAgent:
    """``slipway.build.ssh_agent.Agent`` at a socket of this machine's."""

    path: Path

    async def ask(self, message: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(self.path)
        try:
            writer.write(len(message).to_bytes(4, "big") + message)
            await writer.drain()
            size = int.from_bytes(await reader.readexactly(4), "big")
            return await reader.readexactly(size)
        finally:
            writer.close()


@contextmanager
def ssh_agent(directory: Path, *names: str) -> Iterator[Path]:
    """The socket of an agent with a key for each of ``names`` (whose comment it is); ``directory`` has NAME.pub."""
    path = directory / "a.sock"
    running = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
    try:
        while not path.exists():
            assert running.poll() is None
        environment = {**os.environ, "SSH_AUTH_SOCK": str(path)}
        for name in names:
            key = directory / name
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(key)]
            subprocess.run(words, check=True)
            subprocess.run(["ssh-add", "-q", str(key)], env=environment, check=True)
            key.unlink()
        yield path
    finally:
        running.terminate()
        running.wait()


ASK = """\
use IO::Socket::UNIX;
my $agent = IO::Socket::UNIX->new(Peer => $ENV{SSH_AUTH_SOCK}) or die "no agent: $!";
sub ask { my $m = shift; syswrite $agent, pack("N", length $m) . $m; read $agent, my $n, 4 or die "hung up";
          read $agent, my $a, unpack("N", $n); $a }
my $what = shift;
my $list = ask(chr 11);
my ($key) = unpack("N/a", substr($list, 5));
print $list if $what eq "list";
print ord(ask(chr(13) . pack("N/a", $key) . pack("N/a", "data") . pack("N", 0))), "\\n" if $what eq "sign";
print ord(ask(chr 19)), "\\n" if $what eq "clear";
"""
"""A Perl program for a step: ``list`` prints the keys, ``sign`` 14 for a signature, ``clear`` 5 for a refusal."""
