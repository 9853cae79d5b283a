"""Sessions that went like this one: scores by hand, and those of a slow reference on any log."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.schema import DAY
from feature_repo.session_features import Recent
from serving.indexes import SessionIndex
from serving.sources.session_neighbours import WEIGHTS, NeighbourWeights, neighbour_scores
from tests.serving.tiny_shopper import found
from tests.tiny_bundle import NAMES, TRAINED_AT, codes, session_index

HALF = 1 / math.log(2)
"""The e-folding of what halves with each step or day."""
HALVING = NeighbourWeights(step_decay=HALF, session_age=HALF, distance=HALF, rarity=1, novelty=0)


def evenly_rare(*sessions: Sequence[str]) -> SessionIndex:
    """An index of sessions, the newest first, each a day older than the one before; all items count alike."""
    index = session_index(sessions)
    return replace(index, rarity=np.ones_like(index.rarity))


def recent(*names: str, steps: Sequence[int] | None = None) -> Recent:
    """The newest items of a window, the newest first."""
    return Recent(codes(names), np.array(range(len(names)) if steps is None else steps, np.int64))


def scores(index: SessionIndex, window: Recent, weights: NeighbourWeights = HALVING) -> dict[str, Any]:
    """What the neighbours bring, by name."""
    items, values = neighbour_scores(index, window, TRAINED_AT, weights)
    assert (items.dtype, values.dtype) == (np.dtype(np.int32), np.dtype(np.float32))
    return {
        NAMES[item]: pytest.approx(value, rel=1e-5)
        for item, value in zip(items, values.tolist(), strict=True)
    }


def test_scores_by_hand() -> None:
    index = evenly_rare(("kettle", "teapot", "mug"), ("kettle", "tray"), ("desk", "chair"))
    # The first session shares the kettle and, a step back, the mug: 1 + 1/2. The second shares the kettle and is a
    # day old: 1/2. From the kettle the teapot and the tray are one step away, the mug two.
    assert scores(index, recent("kettle", "mug")) == {
        "teapot": 1.5 / 2,
        "mug": 1.5 / 4,
        "tray": 0.5 / 2,
    }


def test_what_came_before_the_shared_item_is_as_near_as_what_came_after() -> None:
    index = evenly_rare(("desk", "lamp", "kettle", "teapot", "mug"))
    assert scores(index, recent("kettle")) == {"desk": 1 / 4, "lamp": 1 / 2, "teapot": 1 / 2, "mug": 1 / 4}


def test_a_session_that_shares_nothing_brings_nothing() -> None:
    index = evenly_rare(("desk", "chair"), ("lamp", "bulb"))
    assert scores(index, recent("kettle", "mug")) == {}
    assert scores(index, recent()) == {}
    assert scores(evenly_rare(), recent("kettle")) == {}


def test_items_of_one_moment_have_the_same_distance() -> None:
    index = evenly_rare(("kettle", "teapot", "mug", "tray"))
    basket = replace(index, session_steps=np.array([0, 1, 1, 1], np.int32))
    assert scores(basket, recent("kettle")) == {"teapot": 1 / 2, "mug": 1 / 2, "tray": 1 / 2}
    # The basket is one step from the kettle, and what lies in it is as near to each other as one step.
    assert scores(basket, recent("mug")) == {"teapot": 1 / 2, "kettle": 1 / 2, "tray": 1 / 2}


def test_items_of_one_moment_of_the_window_count_alike() -> None:
    index = evenly_rare(("kettle", "teapot"), ("mug", "tray"))
    index = replace(index, session_time=np.full(2, TRAINED_AT))
    assert scores(index, recent("kettle", "mug", steps=(0, 0))) == {"teapot": 1 / 2, "tray": 1 / 2}
    assert scores(index, recent("kettle", "mug", steps=(0, 1))) == {"teapot": 1 / 2, "tray": 1 / 4}


def test_distances_are_from_the_newest_shared_item_where_it_stands_last() -> None:
    index = evenly_rare(("mug", "kettle", "desk", "kettle", "lamp"))
    # Of kettle and mug the kettle is newer; its last place is the fourth. All but that may come again.
    expected = {"mug": 1.5 / 8, "kettle": 1.5 / 4, "desk": 1.5 / 2, "lamp": 1.5 / 2}
    assert scores(index, recent("kettle", "mug")) == expected


def test_rare_items_make_better_neighbours_and_better_finds() -> None:
    index = session_index([("kettle", "teapot"), ("mug", "teapot"), ("mug", "tray"), ("mug", "rug")])
    index = replace(index, session_time=np.full(4, TRAINED_AT))
    rarity = {"kettle": math.log(5 / 2), "mug": math.log(5 / 4), "teapot": math.log(5 / 3)}
    weights = HALVING._replace(step_decay=math.inf, novelty=2)
    found_items = scores(index, recent("kettle", "mug"), weights)
    assert found_items["teapot"] == (rarity["kettle"] + rarity["mug"]) / 2 * rarity["teapot"] ** 2
    assert found_items["tray"] == rarity["mug"] / 2 * math.log(5 / 2) ** 2


def test_only_the_newest_sessions_of_an_item_are_looked_up() -> None:
    index = evenly_rare(("kettle", "teapot"), ("kettle", "mug"), ("kettle", "tray"), ("desk", "rug"))
    assert set(scores(index, recent("kettle"), HALVING._replace(sessions=2))) == {"teapot", "mug"}
    both = scores(index, recent("kettle", "desk"), HALVING._replace(sessions=1))
    assert set(both) == {"teapot", "rug"}  # for each item


def test_only_the_nearest_sessions_are_kept() -> None:
    index = evenly_rare(("mug", "tray"), ("kettle", "mug", "teapot"), ("kettle", "rug"))
    window = recent("kettle", "mug")
    # Of 1/2, (1 + 1/2) / 2 and 1 / 4 the second is nearest, then the first.
    assert set(scores(index, window, HALVING._replace(neighbours=1))) == {"mug", "teapot"}
    assert set(scores(index, window, HALVING._replace(neighbours=2))) == {"mug", "teapot", "tray"}


def test_of_sessions_equally_near_those_of_the_newer_item_are_kept_then_the_newer_ones() -> None:
    index = evenly_rare(("mug", "bulb"), ("kettle", "teapot"), ("kettle", "tray"), ("mug", "rug"))
    index = replace(index, session_time=np.full(4, TRAINED_AT))
    window = recent("kettle", "mug", steps=(0, 0))
    in_order = ["teapot", "tray", "bulb", "rug"]
    for kept in range(1, 5):
        assert list(scores(index, window, HALVING._replace(neighbours=kept))) == in_order[:kept]


def test_sessions_equally_near_make_way_for_a_nearer_one() -> None:
    index = evenly_rare(("kettle", "teapot"), ("kettle", "tray"), ("kettle", "mug", "rug"))
    index = replace(index, session_time=np.full(3, TRAINED_AT))
    window = recent("kettle", "mug", steps=(0, 0))
    assert set(scores(index, window, HALVING._replace(neighbours=2))) == {"teapot", "mug", "rug"}


def test_an_old_session_counts_less_and_one_of_the_future_as_one_of_now() -> None:
    index = evenly_rare(("kettle", "teapot"), ("kettle", "mug"))
    ahead = replace(index, session_time=np.array([TRAINED_AT + 3 * DAY, TRAINED_AT - 2 * DAY]))
    assert scores(ahead, recent("kettle")) == {"teapot": 1 / 2, "mug": 1 / 8}


def test_on_the_tiny_shop_the_source_finds_what_followed_a_kettle() -> None:
    near = found("session_neighbours", "kettle")
    hour = 1 / 24
    kettle, others = math.log(5 / 3), math.log(5 / 2) ** WEIGHTS.novelty
    newer, older = (kettle * math.exp(-age / WEIGHTS.session_age) for age in (hour, 2 + hour))
    one_step = math.exp(-1 / WEIGHTS.distance)
    assert near == {
        "teapot": newer * one_step * others,
        "tray": older * one_step * others,
        "mug": newer * one_step**2 * others,
    }
    assert list(near) == ["teapot", "tray", "mug"]


class Met(NamedTuple):
    """An item of a session and how many moments have passed."""

    item: str
    step: int


@st.composite
def logs(draw: st.DrawFn) -> list[list[Met]]:
    """Sessions, the newest first, of one item or more; some items of one moment."""
    sessions = []
    for _ in range(draw(st.integers(1, 8))):
        items = draw(st.lists(st.sampled_from(NAMES[:6]), min_size=1, max_size=6))
        moved = draw(st.lists(st.booleans(), min_size=len(items) - 1, max_size=len(items) - 1))
        steps = np.cumsum([False, *moved]).tolist()
        sessions.append([Met(*met) for met in zip(items, steps, strict=True)])
    return sessions


@st.composite
def windows(draw: st.DrawFn) -> Recent:
    items = draw(st.lists(st.sampled_from(NAMES[:7]), unique=True, min_size=1, max_size=5))
    moved = draw(st.lists(st.booleans(), min_size=len(items) - 1, max_size=len(items) - 1))
    return recent(*items, steps=np.cumsum([False, *moved]).tolist())


def reference(sessions: list[list[Met]], window: Recent, sessions_of_item: int) -> dict[str, float]:
    """The sum that the source's docstring describes, one session after the other."""
    newest = {NAMES[item]: int(step) for item, step in zip(*window, strict=True)}
    holders = {
        name: [number for number, session in enumerate(sessions) if name in {met.item for met in session}]
        for name in NAMES
    }
    rarity = {name: math.log((len(sessions) + 1) / (len(held) + 1)) for name, held in holders.items()}
    total: defaultdict[str, float] = defaultdict(float)
    for number, session in enumerate(sessions):
        similarity = sum(
            math.exp(-step / WEIGHTS.step_decay) * rarity[name] ** WEIGHTS.rarity
            for name, step in newest.items()
            if number in holders[name][:sessions_of_item]
        )
        if not similarity:
            continue
        similarity *= math.exp(-number / WEIGHTS.session_age)
        shared = next(name for name in newest if name in {met.item for met in session})
        at = max(place for place, met in enumerate(session) if met.item == shared)
        for place, met in enumerate(session):
            if place != at:
                distance = max(abs(met.step - session[at].step), 1)
                novelty = rarity[met.item] ** WEIGHTS.novelty
                total[met.item] += similarity * math.exp(-distance / WEIGHTS.distance) * novelty
    return total


@settings(deadline=None, max_examples=200)
@given(logs(), windows(), st.integers(1, 4))
def test_all_sessions_at_once_are_scored_like_one_after_the_other(
    sessions: list[list[Met]], window: Recent, sessions_of_item: int
) -> None:
    index = session_index([[met.item for met in session] for session in sessions])
    steps = np.array([met.step for session in sessions for met in session], np.int32)
    weights = WEIGHTS._replace(sessions=sessions_of_item)
    brought = scores(replace(index, session_steps=steps), window, weights)
    assert brought == reference(sessions, window, sessions_of_item)
