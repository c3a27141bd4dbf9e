"""What a request's directories are to a worker elsewhere."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from slipway.build.context import Context
from slipway.build.pods.answers import Answers
from slipway.build.pods.forms import tree_name
from slipway.build.request import SolveRequest

_KEEPING = b"type=cache"
_MAX_DOCKERFILE = 16 * 1024 * 1024


def keeps(request: SolveRequest) -> bool:
    """Whether the Dockerfile names a kept directory; what is wrong with it is said later, by who builds it. Blocks."""
    if request.inline is not None:
        return _KEEPING in request.inline.encode("utf-8", "surrogateescape")
    with Context(request.context) as context:
        real = context.resolve(request.dockerfile)
        if real is None:
            return False
        with context.open(real) as handle:
            return _KEEPING in handle.read(_MAX_DOCKERFILE)


async def with_trees(request: SolveRequest, answers: Answers) -> SolveRequest:
    """The request with its directories as trees that the worker asks for."""
    context = await asyncio.to_thread(Context, request.context)
    main = tree_name(answers.add_tree(context))
    contexts = {
        name: tree_name(answers.add_tree(await asyncio.to_thread(Context, value), name))
        if isinstance(value, Path)
        else value
        for name, value in request.contexts.items()
    }
    return replace(request, context=main, contexts=contexts)
