"""What must change: tables of what is wanted and what runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.base.clock import now
from slipway.compose import DependsOn, HealthTest, Project, Service, VolumeMount
from slipway.delivery.engine import Instance, Wanted
from slipway.delivery.plan import plan
from slipway.delivery.reconcile import INTERVAL, Patience
from slipway.delivery.releases import Release, release_digest
from slipway.delivery.rollout import patience
from slipway.delivery.stepwise import decide


def release(*services: Service, image: str = "a") -> Release:
    model = Project("shop", {item.name: item for item in services})
    images = {item.name: {"reference": "r:1", "digest": f"sha256:{image}"} for item in services}
    return Release(1, model, images, release_digest(model, images), "active", now(), "ada")


WEB = Service("web", "web", replicas=2)
RELEASE = release(WEB)
RIGHT = RELEASE.config_of(WEB)


def instance(
    number: int, config: str = RIGHT, *, running: bool = True, name: str = "web", code: int | None = None
) -> Instance:
    return Instance(f"{name}{number}", name, 1, number, config, running, exit_code=code)


@pytest.mark.parametrize(
    ("observed", "keep", "start", "end"),
    [
        ([], [], [1, 2], []),
        ([instance(1), instance(2)], ["web1", "web2"], [], []),
        ([instance(1)], ["web1"], [2], []),
        ([instance(2)], ["web2"], [1], []),
        ([instance(1, "old"), instance(2, "old")], [], [1, 2], ["web1", "web2"]),
        ([instance(1, "old"), instance(2)], ["web2"], [1], ["web1"]),
        ([instance(1, running=False, code=1), instance(2)], ["web2"], [1], ["web1"]),
        ([instance(n) for n in (1, 2, 3, 4)], ["web1", "web2"], [], ["web3", "web4"]),
    ],
)
def test_what_is_kept_started_and_ended(
    observed: list[Instance], keep: list[str], start: list[int], end: list[str]
) -> None:
    (item,) = plan(RELEASE, {}, observed).services
    assert [one.id for one in item.keep] == keep
    assert list(item.start) == start
    assert [one.id for one in item.end] == end
    assert item.describe().startswith("web: ")


def test_scale_wins_over_the_model() -> None:
    observed = [instance(1), instance(2)]
    assert plan(RELEASE, {"web": 0}, observed).services[0].end == tuple(observed)
    assert plan(RELEASE, {"web": 3, "gone": 9}, observed).services[0].start == (3,)


def test_services_that_are_no_more_are_orphans() -> None:
    found = plan(RELEASE, {"web": 0}, [instance(1, name="old")])
    assert [item.id for item in found.orphans] == ["old1"]
    assert not found.unchanged
    assert found.describe() == ["web: unchanged", "old: end old1"]


def test_renewed_services_keep_nothing() -> None:
    item = plan(RELEASE, {}, [instance(1), instance(2)], renew={"web"}).services[0]
    assert (len(item.start), len(item.end)) == (2, 2)


@pytest.mark.parametrize(
    ("restart", "code", "done"),
    [
        ("no", 0, True),
        ("no", 1, False),
        ("on-failure:3", 0, True),
        ("on-failure", 2, False),
        ("always", 0, False),
    ],
)
def test_a_job_that_ended_well_is_done(restart: str, code: int, done: bool) -> None:
    job = Service("job", "job", restart=restart)
    wanted = release(job)
    ended = instance(1, wanted.config_of(job), running=False, name="job", code=code)
    assert plan(wanted, {}, [ended]).unchanged is done


def test_what_does_not_change_an_instance_needs_no_new_one() -> None:
    """How many, in which order, from which source: the same instance."""
    other = replace(
        WEB, replicas=5, order="stop-first", depends_on={"db": DependsOn()}, x_slipway={"order": "x"}
    )
    assert release(other).config_of(other) == RIGHT
    for change in (
        {"environment": {"A": "1"}},
        {"memory": 1},
        {"command": ("x",)},
        {"healthcheck": HealthTest(("NONE",))},
    ):
        changed = replace(WEB, **change)
        assert release(changed).config_of(changed) != RIGHT
    assert release(WEB, image="b").config_of(WEB) != RIGHT
    assert (
        release_digest(RELEASE.model, {"web": {"reference": "r:2", "digest": "sha256:a"}}) == RELEASE.digest
    )


instances = st.builds(
    lambda number, config, running, code: instance(number, config, running=running, code=code),
    st.integers(1, 4), st.sampled_from([RIGHT, "old"]), st.booleans(), st.sampled_from([None, 0, 1]),
)  # fmt: skip


@given(st.lists(instances, max_size=6, unique_by=lambda item: item.id), st.integers(0, 4))
def test_a_plan_ends_in_what_is_wanted(observed: list[Instance], wanted: int) -> None:
    (item,) = plan(RELEASE, {"web": wanted}, observed).services
    assert len(item.keep) + len(item.start) == wanted
    assert set(item.keep) | set(item.end) == set(observed)
    assert not set(item.keep) & set(item.end)
    assert not {one.replica for one in item.keep} & set(item.start)
    after = [*item.keep, *(instance(number) for number in item.start)]
    assert plan(RELEASE, {"web": wanted}, after).unchanged


def test_decisions() -> None:
    whole = [instance(1), instance(2)]
    assert decide(Wanted(RELEASE), whole).action == "publish"
    assert decide(Wanted(RELEASE), whole[:1]).action == "repair"
    assert decide(None, []).action == "nothing"
    assert decide(None, whole).leftovers == tuple(whole)
    for found in (decide(Wanted(RELEASE), whole[:1]), decide(None, whole)):
        assert found.describe()


def test_repairs_get_rarer_until_all_is_calm() -> None:
    found, clock, waits = Patience(), 0.0, []
    for _ in range(9):
        found.repaired(clock)
        waits.append(found.until - clock)
        clock = found.until
        found.whole(clock)
    assert waits[:3] == [INTERVAL, 2 * INTERVAL, 4 * INTERVAL]
    assert max(waits) == waits[-1] == 300
    found.whole(clock + 61)
    assert (found.repairs, found.until) == (0, 0)


def test_how_long_a_new_instance_may_take() -> None:
    assert patience(WEB) == 60
    assert patience(replace(WEB, healthcheck=HealthTest(("CMD", "x"), start_period=120))) == 150
    assert patience(replace(WEB, x_slipway={"deploy_timeout": 5.0})) == 5


def test_volume_writers_are_said_to_go_first() -> None:
    store = Service("store", "store", volumes=(VolumeMount("/d", "volume", "d"),))
    assert (
        "after ending" in plan(release(store), {}, [instance(1, "old", name="store")]).services[0].describe()
    )
    assert "next to" in plan(RELEASE, {}, [instance(1, "old")]).services[0].describe()
