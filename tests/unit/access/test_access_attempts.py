"""Guessing passwords, asking too often, and tokens that get tokens."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from urllib.parse import urlencode

import pytest

from slipway.access import AuditFilter, passwords
from slipway.access.attempts import BY_ADDRESS, BY_NAME, BY_NAME_AND_ADDRESS, WINDOW_SECONDS, Attempts
from slipway.base.rate import RateLimit
from slipway.errors import Exhausted, Unauthenticated
from slipway.testing.registry import SECRET, USER, serving


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_who_guesses_waits_and_the_owner_elsewhere_does_not() -> None:
    time = Time()
    attempts = Attempts(time)
    for _ in range(BY_NAME_AND_ADDRESS):
        attempts.check("ann", "6.6.6.6")
        attempts.failed("ann", "6.6.6.6")
        time.now += 1
    with pytest.raises(Exhausted) as error:
        attempts.check("ann", "6.6.6.6")
    assert 0 < error.value.context["retry_after"] <= WINDOW_SECONDS
    attempts.check("ann", "10.0.0.1")
    attempts.check("bob", "6.6.6.6")
    time.now += WINDOW_SECONDS
    attempts.check("ann", "6.6.6.6")


def test_one_address_with_many_names_and_one_name_from_many_addresses() -> None:
    attempts = Attempts(Time())
    for number in range(BY_ADDRESS):
        attempts.failed(f"user{number}", "6.6.6.6")
    with pytest.raises(Exhausted):
        attempts.check("somebody", "6.6.6.6")
    for number in range(BY_NAME):
        attempts.failed("ann", f"10.0.0.{number}")
    with pytest.raises(Exhausted):
        attempts.check("ann", "10.1.0.1")


def test_a_slip_is_forgiven() -> None:
    attempts = Attempts(Time())
    for _ in range(5 * BY_NAME_AND_ADDRESS // 2):
        attempts.check("ann", "1")
        attempts.failed("ann", "1")
        attempts.succeeded("ann", "1")


def test_a_rate_lets_a_burst_through_and_then_its_rate() -> None:
    time = Time()
    limit = RateLimit(2, time)
    taken = sum(limit.take("a") == 0 for _ in range(100))
    assert 20 <= taken <= 22
    assert limit.take("a") > 0
    assert limit.take("b") == 0
    time.now += 5
    assert 9 <= sum(limit.take("a") == 0 for _ in range(100)) <= 11
    assert RateLimit(0).take("a") == 0


async def test_guesses_that_come_at_once_are_no_more_than_those_that_come_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path) as server:
        looked = most = 0
        now: set[object] = set()
        usual = passwords.password_matches

        async def matches(password: str, stored: str | None) -> bool:
            nonlocal looked, most
            looked += 1
            now.add(me := object())
            most = max(most, len(now))
            try:
                return await usual(password, stored)
            finally:
                now.remove(me)

        monkeypatch.setattr(passwords, "password_matches", matches)
        guesses = (server.access.authenticate(USER, f"guess {number}", "6.6.6.6") for number in range(100))
        found = await asyncio.gather(*guesses, return_exceptions=True)
        assert {type(error) for error in found} == {Unauthenticated, Exhausted}
        assert looked < 2 * BY_NAME_AND_ADDRESS
        assert most < 10  # the threads are everybody's
        assert (await server.access.authenticate(USER, SECRET, "10.0.0.1")).name == USER


async def test_the_registry_locks_out_and_says_for_how_long(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        word = base64.b64encode(f"{USER}:wrong".encode()).decode()
        answers = [
            await server("GET", "/v2/", Authorization=f"Basic {word}") for _ in range(BY_NAME_AND_ADDRESS + 1)
        ]
        assert {answer.status for answer in answers[:-1]} == {401}
        assert (answers[-1].status, answers[-1].code) == (429, "TOOMANYREQUESTS")
        assert int(answers[-1].headers["Retry-After"]) > 0
        assert (await server("GET", "/v2/")).status == 429  # even the right one: it would tell
        denied = await server.access.audit_log.events(AuditFilter(action="login", denied=True), 100)
        assert len(denied) == BY_NAME_AND_ADDRESS


async def test_a_refresh_token_gets_tokens_and_nothing_else(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        form = {
            "grant_type": "password", "username": USER, "password": SECRET, "access_type": "offline",
            "service": "slipway-registry", "client_id": "docker", "scope": "repository:lib/x:pull,push",
        }  # fmt: skip
        answer = await server("POST", "/token", urlencode(form).encode(), Authorization="")
        refresh = json.loads(answer.body)["refresh_token"]
        form = {
            "grant_type": "refresh_token", "refresh_token": refresh,
            "scope": "repository:lib/x:pull repository:lib/y:pull",
        }  # fmt: skip
        answer = await server("POST", "/token", urlencode(form).encode(), Authorization="")
        token = json.loads(answer.body)["access_token"]
        assert "refresh_token" not in json.loads(answer.body)
        _, grants = server.access.tokens.check(token)
        assert [(grant.name, set(grant.actions)) for grant in grants] == [
            ("lib/x", {"pull"}),
            ("lib/y", {"pull"}),
        ]
        with pytest.raises(Unauthenticated):
            await server.access.check_session(refresh)
        assert (await server("GET", "/v2/", Authorization=f"Bearer {refresh}")).status == 401
        login, _ = await server.access.open_session(await server.access.authenticate(USER, SECRET))
        form["refresh_token"] = login
        assert (await server("POST", "/token", urlencode(form).encode(), Authorization="")).status == 401
        await server.access.set_password(USER, "another password")
        form["refresh_token"] = refresh
        assert (await server("POST", "/token", urlencode(form).encode(), Authorization="")).status == 401


async def test_forms_that_are_none_are_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        for body in (b"", b"grant_type=x", b"grant_type=refresh_token", b"x" * 100_000):
            answer = await server("POST", "/token", body, Authorization="")
            assert answer.status in (400, 401)
