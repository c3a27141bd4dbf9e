"""Capabilities that a project's apps may have."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.base import capabilities
from slipway.compose import ComposeError, Project, Service, load
from slipway.delivery import AppPolicy
from slipway.errors import Invalid


def _wanting(*names: str) -> Project:
    return Project("shop", {"web": Service("web", image="a", cap_add=names)})


def _refused(policy: AppPolicy, *names: str) -> list[str]:
    return [item.reason.rpartition(" ")[2] for item in policy.refusals(_wanting(*names))]


@given(st.sets(st.sampled_from(capabilities.NAMES)), st.sets(st.sampled_from(capabilities.NAMES)))
def test_a_container_has_dockers_own_and_what_was_granted(granted: set[str], wanted: set[str]) -> None:
    policy = AppPolicy(tuple(granted)).checked()
    assert set(_refused(policy, *wanted)) == wanted - granted - set(capabilities.DEFAULT)


def test_names_are_taken_as_compose_takes_them() -> None:
    policy = AppPolicy(("cap_net_admin", "NET_ADMIN")).checked()
    assert policy.to_json() == {"capabilities": ["NET_ADMIN"]}
    assert _refused(policy, "CAP_NET_ADMIN", "net_admin", "ALL", "sys_module") == ["ALL", "SYS_MODULE"]
    assert _refused(AppPolicy(("all",)).checked(), "ALL", "SYS_MODULE") == []
    assert AppPolicy.parse({"capabilities": ["BPF"], "later": 1}) == AppPolicy(("BPF",))
    with pytest.raises(Invalid, match="unknown capability 'FLY'"):
        AppPolicy(("fly",)).checked()


def test_a_refusal_says_the_line_and_who_can_help(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services:\n  web:\n    image: a\n    cap_add: [SYS_ADMIN]\n")
    with pytest.raises(ComposeError, match="not granted to the project's apps: SYS_ADMIN") as caught:
        load(tmp_path, (), name="shop", refuse=AppPolicy().refusals)
    assert "compose.yaml:4" in str(caught.value)
    assert "slipway project app-policy PROJECT --allow SYS_ADMIN" in caught.value.hint
