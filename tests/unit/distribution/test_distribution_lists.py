"""Lists of tags and repositories, as registries send them: a page at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from slipway.distribution import RemoteRegistry
from slipway.oci import Reference

TAGS = [f"v{number:02}" for number in range(25)]


def by_name(request: web.BaseRequest) -> tuple[list[str], str]:
    """As the specification has it."""
    found = [tag for tag in TAGS if tag > request.query.get("last", "")][:10]
    return found, f"</v2/lib/x/tags/list?n=10&last={found[-1]}>" if found[-1] != TAGS[-1] else ""


def by_token(request: web.BaseRequest) -> tuple[list[str], str]:
    """As some have it; it calls itself by another name, too."""
    first = int(request.query.get("next_page", "p0").removeprefix("p"))
    link = f"<http://inner.example/v2/lib/x/tags/list?n=10&next_page=p{first + 10}>"
    return TAGS[first : first + 10], link if first + 10 < len(TAGS) else ""


def by_nothing(_request: web.BaseRequest) -> tuple[list[str], str]:
    """It says that there is more, and always the same."""
    return TAGS, "</v2/lib/x/tags/list?n=10&again>"


@asynccontextmanager
async def registry(page: Callable[[web.BaseRequest], tuple[list[str], str]]) -> AsyncIterator[str]:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        tags, link = page(request)
        headers = {"Link": f'{link}; rel="next"'} if link else {}
        return web.json_response({"name": "lib/x", "tags": tags}, headers=headers)

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("page", [by_name, by_token])
async def test_every_page_is_asked_for_where_the_registry_says(
    page: Callable[[web.BaseRequest], tuple[list[str], str]],
) -> None:
    async with registry(page) as host, RemoteRegistry(host) as remote:
        assert await remote.tags(Reference("lib/x", host)) == TAGS


async def test_a_list_that_leads_to_itself_ends() -> None:
    async with registry(by_nothing) as host, RemoteRegistry(host) as remote:
        assert set(await remote.tags(Reference("lib/x", host))) == set(TAGS)
