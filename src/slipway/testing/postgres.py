"""A PostgreSQL for a test: Debian's, on a unix socket below a scratch directory, not the system's cluster."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from slipway.testing.platform import free_port

_ACCOUNT = "postgres"


@dataclass(slots=True)
class Postgres:
    """A cluster that can be stopped and started again. Its collation is not "C", as most are not."""

    directory: Path
    programs: Path
    address: str = ""
    port: int = 5432
    _made: int = 0

    def database(self) -> str:
        """A new, empty database's address."""
        self._made += 1
        name = f"test{self._made}"
        self.run("createdb", "-h", str(self.directory), "-p", str(self.port), name)
        if self.address:
            return f"postgresql://{_ACCOUNT}@{self.address}:{self.port}/{name}"
        return f"postgresql+asyncpg://{_ACCOUNT}@/{name}?host={self.directory}"

    def start(self) -> None:
        options = (
            f"-k {self.directory} -c listen_addresses={self.address} -c port={self.port} -c fsync=off "
            "-c max_connections=60"
        )
        log = str(self.directory / "log")
        self.run("pg_ctl", "-D", str(self.directory / "data"), "-o", options, "-l", log, "-w", "start")

    def stop(self) -> None:
        """At once, as a crash would."""
        self.run("pg_ctl", "-D", str(self.directory / "data"), "-m", "immediate", "-w", "stop")

    def run(self, program: str, *words: str) -> None:
        user = _ACCOUNT if os.geteuid() == 0 else None
        done = subprocess.run(
            [self.programs / program, *words], user=user, cwd="/", env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False,
        )  # fmt: skip
        if done.returncode:
            raise AssertionError(f"{program}: {done.stdout.decode(errors='replace')}")


@contextmanager
def postgres(address: str = "") -> Iterator[Postgres]:
    """``address`` of this machine's: it answers there, too, to whoever comes."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    directory = Path(tempfile.mkdtemp(prefix="pg-", dir="/var/tmp"))  # a socket's path is short
    found = Postgres(directory, programs, address, free_port() if address else 5432)
    try:
        if os.geteuid() == 0:
            shutil.chown(directory, _ACCOUNT)
        data = str(directory / "data")
        found.run(
            "initdb",
            "-D",
            data,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale-provider=icu",
            "--icu-locale=en",
            "-N",
        )
        if address:
            with (directory / "data" / "pg_hba.conf").open("a") as rules:
                rules.write("host all all 0.0.0.0/0 trust\n")
        found.start()
        yield found
    finally:
        if (directory / "data" / "postmaster.pid").exists():
            found.stop()
        shutil.rmtree(directory, ignore_errors=True)
