"""An S3 server for a test: OpenStack Swift from Debian's packages, one replica below a scratch directory."""

from __future__ import annotations

import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import obstore
from obstore.store import S3Store

from slipway.testing.platform import free_port

ACCESS_KEY, SECRET_KEY = "test:tester", "testing"
_SERVERS = ("account", "container", "object")
_CONF = """\
[swift-hash]
swift_hash_path_suffix = suffix
swift_hash_path_prefix = prefix
[storage-policy:0]
name = only
default = yes
"""
_STORAGE = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {directory}
devices = {directory}/devices
mount_check = false
log_address = {directory}/no-log
fallocate_reserve = 0
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
fallocate_reserve = 0
"""
_PROXY = """\
[DEFAULT]
bind_ip = {address}
bind_port = {port}
workers = 0
user = {user}
swift_dir = {directory}
log_address = {directory}/no-log
[pipeline:main]
pipeline = catch_errors cache s3api tempauth copy slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
object_chunk_size = 1048576
client_chunk_size = 1048576
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{memcached}
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
"""


@dataclass(frozen=True, slots=True)
class Swift:
    """A running server; ``endpoint`` speaks S3."""

    endpoint: str

    def bucket(self, name: str) -> str:
        """A new bucket's address."""
        store = S3Store(
            name, endpoint=self.endpoint, region="us-east-1", access_key_id=ACCESS_KEY,
            secret_access_key=SECRET_KEY, client_options={"allow_http": True},
        )  # fmt: skip
        address = obstore.sign(store, "PUT", "", timedelta(minutes=1))
        urllib.request.urlopen(urllib.request.Request(address, method="PUT"), timeout=30).close()
        return f"s3://{name}/content?endpoint={self.endpoint}&region=us-east-1&settle=0"

    @property
    def environment(self) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}


@contextmanager
def swift(directory: Path, address: str = "127.0.0.1") -> Iterator[Swift]:
    """A server whose files are below ``directory`` (on a file system with extended attributes)."""
    directory.mkdir(parents=True)
    (directory / "swift.conf").write_text(_CONF)
    user = "root" if os.geteuid() == 0 else os.environ.get("USER", "nobody")
    memcached, proxy = free_port(), free_port()
    with ExitStack() as stack:
        _start(stack, directory, ["memcached", "-l", "127.0.0.1", "-p", str(memcached), "-u", user])
        for kind in _SERVERS:
            port = free_port()
            (directory / "devices" / kind).mkdir(parents=True)
            _ring(directory, kind, port)
            config = directory / f"{kind}.conf"
            config.write_text(_STORAGE.format(kind=kind, port=port, directory=directory, user=user))
            _start(stack, directory, [f"swift-{kind}-server", str(config)])
        config = directory / "proxy.conf"
        values = {"port": proxy, "directory": directory, "memcached": memcached, "user": user}
        config.write_text(_PROXY.format(address=address, **values))
        process = _start(stack, directory, ["swift-proxy-server", str(config)])
        _until_answers(f"http://{address}:{proxy}/", process, directory)
        yield Swift(f"http://{address}:{proxy}")


def _ring(directory: Path, kind: str, port: int) -> None:
    for words in (
        ("create", "4", "1", "1"),
        ("add", f"r1z1-127.0.0.1:{port}/{kind}", "1"),
        ("rebalance",),
    ):
        command = ["swift-ring-builder", f"{kind}.builder", *words]
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
        if done.returncode > 1:  # 1 is a warning
            raise AssertionError(f"{' '.join(command)}: {done.stdout}{done.stderr}")


def _start(stack: ExitStack, directory: Path, words: list[str]) -> subprocess.Popen[bytes]:
    log = stack.enter_context((directory / "log").open("ab"))
    process = stack.enter_context(subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL))
    stack.callback(process.kill)
    return process


def _until_answers(url: str, process: subprocess.Popen[bytes], directory: Path) -> None:
    for _ in range(1200):
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except urllib.error.HTTPError as error:
            if error.code < 500:
                return
        except OSError:
            pass
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise AssertionError(f"Swift does not answer:\n{(directory / 'log').read_text()[-3000:]}")
