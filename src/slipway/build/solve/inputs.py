"""What a copy depended on, for those who ask why it had to run, and where its bytes came from."""

from __future__ import annotations

from collections.abc import Sequence

from slipway.build.attest.provenance import Material
from slipway.build.explain import MAX_FILES, Inputs, fingerprints
from slipway.build.plan import CopyOp
from slipway.build.remote import GitSource, RemoteSource
from slipway.layers import Entry


def copied(operation: CopyOp, key: str, entries: Sequence[Entry], parts: Sequence[bytes]) -> Inputs:
    facts = {"--chmod": operation.chmod, "unpacking": str(operation.unpack)}
    if len(entries) > MAX_FILES:
        return Inputs(key, operation.created_by, facts | {"the files": key})
    return Inputs(key, operation.created_by, facts, fingerprints((entry.path for entry in entries), parts))


def material_of(source: RemoteSource, revision: str) -> Material:
    if isinstance(source, GitSource):
        return Material(f"git+{source.url}", {"gitCommit": revision})
    algorithm, _, value = revision.partition(":")
    return Material(source.url, {algorithm: value} if value else {})
