"""The configuration HAProxy reads, and what it may not be talked into."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.errors import Conflict, Invalid
from slipway.network.routes import Files, Route, Server, check, host_map, identity, render, render_map

FILES = Files(Path("/run/slipway/balancer"))
ONE, TWO = Server("a1", "10.89.0.2", 8000), Server("b2", "10.89.0.3", 8000)
WEB = Route("web.shop.localhost", (ONE, TWO), aliases=("Shop.Example",))
DB = Route("db.shop.localhost", (ONE,), "127.0.0.1:5432")


def test_a_route_becomes_a_backend() -> None:
    text = render([WEB], "127.0.0.1:8080", FILES)
    assert "backend web.shop.localhost from http\n    errorfile 503 /run/slipway/balancer/503.http\n" in text
    assert "    server a1 10.89.0.2:8000 maxconn 2000\n    server b2 10.89.0.3:8000 maxconn 2000\n" in text
    assert "    bind 127.0.0.1:8080\n" in text


def test_a_tcp_route_has_a_frontend_named_after_its_address() -> None:
    text = render([DB], "127.0.0.1:8080", FILES)
    assert DB.frontend == "tcp:127.0.0.1_5432_db.shop.localhost"
    assert (
        f"\nfrontend {DB.frontend} from tcp\n    bind 127.0.0.1:5432\n    default_backend tcp:db.shop.localhost\n"
        in text
    )


def test_order_does_not_matter() -> None:
    turned = Route(WEB.host, (TWO, ONE), aliases=WEB.aliases)
    assert render([WEB, DB], "x", FILES) == render([DB, turned], "x", FILES)
    assert render_map([WEB, DB]) == render_map([DB, turned])


def test_hosts_are_told_apart_without_case() -> None:
    assert host_map([WEB]) == {"web.shop.localhost": WEB.backend, "shop.example": WEB.backend}


def test_the_identity_is_that_of_address_and_directory() -> None:
    mine = identity("127.0.0.1:8080", FILES)
    assert mine == identity("127.0.0.1:8080", FILES)
    assert mine != identity("127.0.0.1:8081", FILES)
    assert mine != identity("127.0.0.1:8080", Files(Path("/elsewhere")))


@pytest.mark.parametrize("host", ["", "a b", "a\nbackend x", "a;b", "-", ".", "a/b", 'a"b', "a#b", "*"])
def test_what_is_no_host(host: str) -> None:
    with pytest.raises(Invalid):
        Route(host, ())
    with pytest.raises(Invalid):
        Route("good", (), aliases=(host,))


@pytest.mark.parametrize("listen", ["80", "a b:80", "1.2.3.4:80 ssl", ":", "x:y", "1.2.3.4:80\n", "[::1"])
def test_what_is_no_address_to_listen_on(listen: str) -> None:
    with pytest.raises(Invalid):
        Route("good", (), listen)


@pytest.mark.parametrize(
    "words",
    [("a b", "h", 1), ("a", "h h", 1), ("a", "h", 0), ("a", "h", 65536), ("", "h", 1), ("a;b", "h", 1)],
)
def test_what_is_no_server(words: tuple[str, str, int]) -> None:
    with pytest.raises(Invalid):
        Server(*words)


def test_two_routes_may_not_want_the_same() -> None:
    check([WEB, DB], "127.0.0.1:8080")
    with pytest.raises(Conflict, match="wanted twice"):
        check([WEB, Route("other", (), aliases=("WEB.shop.localhost",))], "x:1")
    with pytest.raises(Conflict, match="wanted twice"):
        check([DB, Route("other", (), DB.tcp_listen)], "x:1")
    with pytest.raises(Conflict, match="by the balancer itself"):
        check([DB], DB.tcp_listen)


HOSTS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,9}[a-z0-9])?(\.[a-z][a-z0-9]{0,5}){0,3}", fullmatch=True)
SERVERS = st.builds(
    Server,
    st.from_regex(r"[a-f0-9]{4}", fullmatch=True),
    st.ip_addresses(v=4, network="10.89.0.0/16").map(str),
    st.integers(1, 65535),
)


@given(st.lists(st.tuples(HOSTS, st.lists(SERVERS, max_size=3), st.booleans()), max_size=4))
def test_every_line_is_one_of_ours(found: list[tuple[str, list[Server], bool]]) -> None:
    routes = [Route(host, tuple(servers), "127.0.0.1:9" if tcp else "") for host, servers, tcp in found]
    text = render(routes, "127.0.0.1:8080", FILES)
    sections = [line.split()[0] for line in text.splitlines() if line and not line.startswith(" ")]
    expected = ["global", "defaults", "defaults", "frontend"]
    for route in sorted(routes, key=lambda item: item.host):
        expected += ["backend", "frontend", "backend"] if route.tcp_listen else ["backend"]
    assert sections == expected


@pytest.mark.skipif(not shutil.which("haproxy", path="/usr/sbin:/usr/bin"), reason="needs haproxy")
def test_haproxy_accepts_it_without_a_warning(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.config.write_text(render([WEB, DB, Route("none.localhost", ())], "127.0.0.1:8080", files))
    files.hosts.write_text(render_map([WEB, DB]))
    files.unknown.write_text("no\n")
    files.nobody.write_text("HTTP/1.0 503 Service Unavailable\r\nConnection: close\r\n\r\nno\n")
    done = subprocess.run(
        ["/usr/sbin/haproxy", "-c", "-f", files.config], capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
