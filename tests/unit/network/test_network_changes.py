"""From what runs to what is wanted: the fewest commands, in an order that loses nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from slipway.network.changes import (
    Seen,
    State,
    diff,
    idle,
    needs_reload,
    parse_map,
    parse_names,
    parse_servers,
)
from slipway.network.haproxy import Processes, parse_processes
from slipway.network.routes import Route, Server, host_map

MAP = Path("/run/hosts.map")
ONE, TWO = Server("a1", "10.89.0.2", 8000), Server("b2", "10.89.0.3", 8000)
SERVERS = """\
1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_fqdn srv_port srvrecord
3 web 1 a1 10.89.0.2 2 0 1 - 8000 -
3 web 2 b2 10.89.0.3 2 8 1 - 8000 -
"""
PROCESSES = """\
#<PID>          <type>          <reloads>       <uptime>        <version>
20545           master          3 [failed: 2]   0d00h00m07s     2.6.12-1+deb12u4
# workers
21815           worker          0               0d00h00m01s     2.6.12-1+deb12u4
# old workers
20546           worker          3               0d00h00m07s     2.6.12-1+deb12u4
20547           worker          2               0d00h00m07s     2.6.12-1+deb12u4
# programs
"""


def state(*routes: Route, identity: str = "me") -> State:
    """Of a HAProxy that was just started with ``routes``."""
    return State(
        identity,
        host_map(routes),
        frozenset(backend for route in routes for backend in route.backends),
        frozenset({"apps", *(route.frontend for route in routes if route.tcp_listen)}),
        {
            (backend, server.id): Seen(server.address, server.port, True)
            for route in routes
            for backend in route.backends
            for server in route.servers
        },
    )


def test_nothing_to_do() -> None:
    routes = [Route("web", (ONE, TWO), "127.0.0.1:5432", ("example",))]
    assert diff(state(*routes), routes, MAP) == []
    assert not needs_reload(state(*routes), routes, "me")


def test_the_new_come_before_the_old_go() -> None:
    assert diff(state(Route("web", (ONE,))), [Route("web", (TWO,))], MAP) == [
        "add server web/b2 10.89.0.3:8000 maxconn 2000",
        "enable server web/b2",
        "set server web/a1 state drain",
    ]


def test_names_change_between_them() -> None:
    before = state(Route("web", (ONE,), aliases=("old", "moved")), Route("api", ()))
    after = [Route("web", (ONE,), aliases=("new",)), Route("api", (TWO,), aliases=("moved",))]
    assert diff(before, after, MAP) == [
        "add server api/b2 10.89.0.3:8000 maxconn 2000",
        "enable server api/b2",
        "set map /run/hosts.map moved api",
        "add map /run/hosts.map new web",
        "del map /run/hosts.map old",
    ]


def test_a_server_that_comes_back_or_moved() -> None:
    found = state(Route("web", (ONE, TWO)))
    found = replace(found, servers={**found.servers, ("web", "a1"): Seen("10.89.0.2", 8000, False)})
    moved = replace(TWO, port=9000)
    assert diff(found, [Route("web", (ONE, moved))], MAP) == [
        "set server web/a1 state ready",
        "set server web/b2 addr 10.89.0.3 port 9000",
    ]


def test_a_server_that_drains_already_is_left_until_it_is_idle() -> None:
    found = state(Route("web", (ONE, TWO)))
    found = replace(found, servers={**found.servers, ("web", "a1"): Seen("10.89.0.2", 8000, False)})
    assert diff(found, [Route("web", (TWO,))], MAP) == []
    assert idle(found, [Route("web", (TWO,))]) == [("web", "a1")]
    assert idle(found, [Route("web", (ONE, TWO))]) == []


def test_a_tcp_service_has_its_servers_twice() -> None:
    commands = diff(state(Route("db", (), "127.0.0.1:1")), [Route("db", (ONE,), "127.0.0.1:1")], MAP)
    assert [item.split()[2] for item in commands] == ["db/a1", "db/a1", "tcp:db/a1", "tcp:db/a1"]


def test_what_only_a_new_configuration_brings() -> None:
    web, db = Route("web", (ONE,)), Route("db", (), "127.0.0.1:5432")
    assert needs_reload(state(web), [web, Route("new", ())], "me")
    assert needs_reload(state(web), [web], "other")
    assert needs_reload(state(web, db), [web, replace(db, tcp_listen="127.0.0.1:5433")], "me")
    assert needs_reload(state(web, db), [web, replace(db, tcp_listen="")], "me")
    assert needs_reload(state(web, db), [web], "me")
    assert not needs_reload(state(web, Route("gone", (TWO,))), [web], "me")
    assert not needs_reload(state(web), [replace(web, servers=(), aliases=("x",))], "me")


def test_a_service_that_ended_loses_its_name_first() -> None:
    assert diff(state(Route("web", (ONE,))), [], MAP) == [
        "del map /run/hosts.map web",
        "set server web/a1 state drain",
    ]


def test_what_haproxy_tells_is_read() -> None:
    assert parse_servers(SERVERS) == {
        ("web", "a1"): Seen("10.89.0.2", 8000, True),
        ("web", "b2"): Seen("10.89.0.3", 8000, False),
    }
    assert parse_servers("") == {}
    assert parse_map("0x5603e4446e10 web.localhost web\n0x5603e4446e20 x y\n\n") == {
        "web.localhost": "web",
        "x": "y",
    }
    assert parse_names("# name\nweb\ntcp:db\n\n") == {"web", "tcp:db"}
    assert parse_processes(PROCESSES) == Processes(21815, (20546, 20547), 2)
    assert parse_processes("") == Processes()


NAMES = st.sampled_from(["web", "api", "db"])
FOUND = st.builds(Server, st.sampled_from("abcd"), st.sampled_from(["10.0.0.1", "10.0.0.2"]), st.just(80))
ROUTES = st.dictionaries(
    NAMES, st.tuples(st.dictionaries(st.sampled_from("abcd"), FOUND), st.sets(st.sampled_from(["x", "y"])))
)


def routes(drawn: dict[str, tuple[dict[str, Server], set[str]]]) -> list[Route]:
    """One alias belongs to one route only."""
    found, taken = [], set[str]()
    for name, (servers, aliases) in sorted(drawn.items()):
        unique = {server.id: server for server in servers.values()}
        found.append(Route(name, tuple(unique.values()), aliases=tuple(sorted(aliases - taken))))
        taken |= aliases
    return found


def obey(found: State, commands: list[str]) -> State:
    """A HAProxy of paper: refuses what the real one refuses."""
    servers, hosts = dict(found.servers), dict(found.hosts)
    for command in commands:
        words = command.split()
        if words[1] == "map":
            assert (words[3] in hosts) == (words[0] != "add")
            hosts.pop(words[3]) if words[0] == "del" else hosts.__setitem__(words[3], words[4])
            continue
        backend, _, name = words[2].partition("/")
        key = (backend, name)
        assert backend in found.backends
        match words[0], words[3:4]:
            case "add", _:
                assert key not in servers
                address, _, port = words[3].rpartition(":")
                servers[key] = Seen(address, int(port), False)
            case "enable", _:
                servers[key] = replace(servers[key], taking=True)
            case "set", ["addr"]:
                servers[key] = replace(servers[key], address=words[4], port=int(words[6]))
            case "set", ["state"]:
                servers[key] = replace(servers[key], taking=words[4] == "ready")
            case _:
                raise AssertionError(command)
    return replace(found, servers=servers, hosts=hosts)


@given(ROUTES, ROUTES, ROUTES)
def test_any_state_becomes_any_other(
    first: dict[str, tuple[dict[str, Server], set[str]]],
    second: dict[str, tuple[dict[str, Server], set[str]]],
    third: dict[str, tuple[dict[str, Server], set[str]]],
) -> None:
    found = replace(state(*routes(first)), backends=frozenset({"web", "api", "db"}))
    for wanted in (routes(second), routes(third)):
        found = obey(found, diff(found, wanted, MAP))
        assert diff(found, wanted, MAP) == []
        taking = {key: (seen.address, seen.port) for key, seen in found.servers.items() if seen.taking}
        assert taking == {
            (route.backend, server.id): (server.address, server.port)
            for route in wanted
            for server in route.servers
        }
        assert found.hosts == host_map(wanted)


@given(st.text())
def test_any_answer_is_read(text: str) -> None:
    parse_map(text)
    parse_names(text)
    parse_processes(text)
