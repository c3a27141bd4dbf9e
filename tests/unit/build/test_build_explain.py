"""Why a step had to run."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from slipway.build.explain import Inputs, Traces, fingerprints


def test_each_kind_of_change_is_named(tmp_path: Path) -> None:
    traces = Traces(tmp_path / "traces")
    first = traces.of("p/web")
    assert first.missed("app", 1, Inputs("k1", "COPY . ."))[0].startswith("the first build")
    files = fingerprints(["a", "b", "old"], [b"1", b"2", b"3"])
    first.missed("app", 1, Inputs("k1", "COPY . .", {"--chmod": ""}, files))
    first.missed("app", 2, Inputs("k2", "RUN make", {"command": "make", "the variable A": "1", "gone": "x"}))
    traces.save("p/web", first)

    second = traces.of("p/web")
    changed = fingerprints(["a", "b", "new"], [b"1", b"9", b"4"])
    said = second.missed("app", 1, Inputs("k3", "COPY . .", {"--chmod": ""}, changed))
    assert said == ["changed: b", "new: new", "gone: old"]
    facts = {"command": "make", "the variable A": "2", "the variable B": "3"}
    said = second.missed("app", 2, Inputs("k4", "RUN make", facts))
    assert said == [
        "gone is gone, it was 'x'",
        "the variable A changed: '1' -> '2'",
        "the variable B is new: '3'",
    ]
    assert second.missed("app", 3, Inputs("k5", "RUN other")) == ["this step is new"]
    assert traces.of("p/web").missed("app", 2, Inputs("k2", "RUN make")) == [
        "its result is no longer in the cache"
    ]


def test_a_moved_step_is_compared_with_itself(tmp_path: Path) -> None:
    traces = Traces(tmp_path / "traces")
    first = traces.of("line")
    first.missed("0", 1, Inputs("k1", "RUN one", {"command": "one"}))
    traces.save("line", first)
    said = traces.of("line").missed("0", 2, Inputs("k9", "RUN one", {"command": "one", "USER": "me"}))
    assert said == ["USER is new: 'me'"]


def test_what_a_build_did_not_come_to_is_kept_from_before(tmp_path: Path) -> None:
    traces = Traces(tmp_path / "traces")
    first = traces.of("line")
    first.missed("a", 1, Inputs("k1", "RUN one"))
    first.missed("b", 1, Inputs("k2", "RUN two"))
    traces.save("line", first)
    second = traces.of("line")
    second.missed("a", 1, Inputs("k3", "RUN one"))
    traces.save("line", second)
    assert traces.of("line").known("b", "k2") is not None
    assert traces.of("line").known("a", "k1") is None


@given(st.binary())
def test_a_damaged_trace_is_none(data: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        traces = Traces(Path(directory))
        trace = traces.of("line")
        trace.missed("a", 1, Inputs("k1", "RUN one"))
        traces.save("line", trace)
        path = next(Path(directory).iterdir())
        path.write_bytes(data)
        assert traces.of("line").missed("a", 1, Inputs("k1", "RUN one")) == [
            "the first build of this image here"
        ]
