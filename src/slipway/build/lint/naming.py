"""Rules about words: their case, their form, names that are taken."""

from __future__ import annotations

import re
from collections import Counter

from slipway.build.dockerfile import Arg, Env, Expose, Instruction, Label
from slipway.build.lint.findings import Found, Subject

_AS = re.compile(r"\s(?P<as>as)\s+(?P<name>\S+)\s*$", re.IGNORECASE)
_RESERVED = ("context", "scratch")
_SECRET = re.compile(
    r"(?:_|^)(?:apikey|auth|credential|credentials|key|password|pword|passwd|secret|token)(?:_|$)",
    re.IGNORECASE,
)
_PUBLIC = re.compile(r"(?:_|^)public(?:_|$)", re.IGNORECASE)


def stage_name_casing(of: Subject) -> Found:
    for stage in of.dockerfile.stages:
        match = _AS.search(stage.source.original)
        if match and match["name"] != match["name"].lower():
            yield stage.source.location, f"the stage name {match['name']!r} should be in lower case"


def from_as_casing(of: Subject) -> Found:
    for stage in of.dockerfile.stages:
        match = _AS.search(stage.source.original)
        word = _keyword(stage.source.original)
        if match and match["as"].isupper() != word.isupper():
            yield stage.source.location, f"{match['as']!r} and {word!r} should be in the same case"


def consistent_instruction_casing(of: Subject) -> Found:
    """All upper or all lower; the majority says which, in doubt upper."""
    words = [(item, _keyword(item.original)) for item in _instructions(of)]
    cases = Counter(
        "upper" if word.isupper() else "lower" if word.islower() else "mixed" for _, word in words
    )
    wanted = str.lower if cases["lower"] > cases["upper"] else str.upper
    for item, word in words:
        if word != wanted(word):
            yield (
                item.location,
                f"the instruction {word!r} should be written {wanted(word)}, as the others are",
            )


def duplicate_stage_name(of: Subject) -> Found:
    seen: set[str] = set()
    for stage in of.dockerfile.stages:
        if stage.name and stage.name in seen:
            yield stage.source.location, f"a second stage named {stage.name!r}; later uses mean this one"
        seen.add(stage.name)


def reserved_stage_name(of: Subject) -> Found:
    for stage in of.dockerfile.stages:
        if stage.name in _RESERVED:
            yield stage.source.location, f"the stage name {stage.name!r} is a reserved word"


def secrets_used_in_arg_or_env(of: Subject) -> Found:
    for item in _instructions(of):
        if isinstance(item, Arg | Env):
            for name, _ in item.pairs:
                if _SECRET.search(name) and not _PUBLIC.search(name):
                    what = "ARG" if isinstance(item, Arg) else "ENV"
                    yield (
                        item.location,
                        f"{name} looks like a secret, and {what} keeps it in the image: mount it",
                    )


def legacy_key_value_format(of: Subject) -> Found:
    for item in _instructions(of):
        if isinstance(item, Env | Label):
            words = item.original.split(None, 2)
            if len(words) > 2 and "=" not in words[1]:
                yield item.location, f"{words[0]} {words[1][:60]} has the old form without '='"


def expose_proto_casing(of: Subject) -> Found:
    for item in _instructions(of):
        for port in item.ports if isinstance(item, Expose) else ():
            protocol = port.partition("/")[2]
            if protocol != protocol.lower() and "$" not in protocol:
                yield item.location, f"the protocol of {port!r} should be in lower case"


def expose_invalid_format(of: Subject) -> Found:
    for item in _instructions(of):
        for port in item.ports if isinstance(item, Expose) else ():
            if ":" in re.sub(r"\$\{[^}]*\}", "", port):
                yield (
                    item.location,
                    f"EXPOSE names a container's port only, without address or mapping: {port!r}",
                )


def _keyword(original: str) -> str:
    return original.split(None, 1)[0]


def _instructions(of: Subject) -> list[Instruction]:
    found: list[Instruction] = list(of.dockerfile.global_args)
    for stage in of.dockerfile.stages:
        found += [stage.source, *stage.instructions]
    return found
