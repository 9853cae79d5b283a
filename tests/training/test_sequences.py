"""What a sequence model learns from: windows as they were when asked, by hand and against what is served."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.arrays import Float32
from feature_repo.schema import MINUTE, SECOND, EventType
from feature_repo.session_features import SESSION_GAP
from serving.session_encoder import AGE_SCALE, AGES, STEPS, TYPES, VALUES, EncoderItems, SessionEncoder
from tests.training.tiny_log import NOON, Happened, at, encoded
from training.replay import replay
from training.sequences import Batch, Sequences

GAP = SESSION_GAP // MINUTE
VIEW, CART = EventType.VIEW.code, EventType.ADD_TO_CART.code
A, B, C, D, NONE = range(5)
LOG = [
    Happened("ann", "a", 0),
    Happened("ann", "b", 1),
    Happened("ann", "b", 2),
    Happened("ann", "c", 2, EventType.ADD_TO_CART),
    Happened("ann", "d", 2 + GAP + 8),
    Happened("bob", "d", 0),
    Happened("bob", "a", GAP),
]


def sequences(happened: list[Happened]) -> Sequences:
    return Sequences.of(encoded(happened).interactions())


def log_minutes(*minutes: float) -> list[float]:
    return [float(np.log1p(minute * 60) / AGE_SCALE) for minute in minutes]


def one_row(batch: Batch, row: int) -> dict[str, Any]:
    return {
        name: getattr(batch, name)[row].tolist() for name in ("items", "types", "steps", "present", "target")
    }


def test_targets_are_what_came_after_something_else_and_a_reload_is_none() -> None:
    found = sequences(LOG)
    assert len(found) == 4
    assert found.log.item[found.targets].tolist() == [B, C, D, A]
    assert found.times.tolist() == [at(1), at(2), at(2 + GAP + 8), at(GAP)]


def test_a_batch_by_hand() -> None:
    batch = sequences(LOG).batch(np.arange(4), history=3)
    assert one_row(batch, 0) == {
        "items": [A, NONE, NONE],
        "types": [VIEW, 0, 0],
        "steps": [0, 0, 0],
        "present": [True, False, False],
        "target": B,
    }
    assert one_row(batch, 1) == {
        "items": [B, B, A],
        "types": [VIEW, VIEW, VIEW],
        "steps": [0, 1, 2],
        "present": [True, True, True],
        "target": C,
    }
    assert one_row(batch, 2) == {
        "items": [C, B, B],  # the first is too long ago for a history of three
        "types": [CART, VIEW, VIEW],
        "steps": [0, 0, 1],  # the cart came in the moment of the reload
        "present": [True, True, True],
        "target": D,
    }
    assert one_row(batch, 3) == {
        "items": [D, NONE, NONE],  # nothing of ann's
        "types": [VIEW, 0, 0],
        "steps": [0, 0, 0],
        "present": [True, False, False],
        "target": A,
    }


def test_ages_are_those_at_the_moment_of_asking_which_is_the_newest_event_or_the_next_visit() -> None:
    ages = sequences(LOG).batch(np.arange(4), history=3).ages.numpy()
    expected = [
        [*log_minutes(0), 0, 0],
        log_minutes(0, 1, 2),
        log_minutes(GAP + 8, GAP + 8, GAP + 9),  # a new visit: asked when it began
        [*log_minutes(0), 0, 0],  # as long a silence as a session may have
    ]
    np.testing.assert_allclose(ages, expected, rtol=1e-6)


def test_a_batch_is_as_wide_as_its_longest_window() -> None:
    found = sequences(LOG)
    assert found.batch(np.array([0, 3]), history=20).items.shape == (2, 1)
    assert found.batch(np.array([0, 2]), history=20).items.shape == (2, 4)
    assert found.batch(np.array([2]), history=2).items.tolist() == [[C, B]]


def test_types_of_a_batch_are_what_torch_needs() -> None:
    batch = sequences(LOG).batch(np.arange(2), history=5)
    for name in ("items", "types", "steps", "target"):
        assert getattr(batch, name).dtype == torch.int64, name
    assert batch.ages.dtype == torch.float32
    assert batch.present.dtype == torch.bool


def test_rows_that_are_taken_are_the_same_targets() -> None:
    found = sequences(LOG)
    taken = found.take(np.array([3, 1]))
    assert taken.targets.tolist() == found.targets[[3, 1]].tolist()
    assert one_row(taken.batch(np.array([0]), 3), 0) == one_row(found.batch(np.array([3]), 3), 0)


def test_a_log_without_a_second_item_has_no_targets() -> None:
    assert len(sequences([Happened("ann", "a", 0), Happened("bob", "b", 1)])) == 0
    assert len(Sequences.of(encoded([], items=["a"]))) == 0


class Listening:
    """A network that remembers what it was given."""

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}

    def run(self, _: list[str], given: dict[str, Any]) -> list[Float32]:
        self.given = given
        return [np.zeros((1, 4), np.float32)]


paths = st.lists(
    st.builds(
        Happened,
        shopper=st.sampled_from(["ann", "bob"]),
        item=st.sampled_from("abcd"),
        minute=st.sampled_from([0, 1, 2, 5, 40, 41, 75, 1500]),
        type=st.sampled_from([EventType.VIEW, EventType.ADD_TO_CART, EventType.PURCHASE]),
    ),
    min_size=1,
    max_size=16,
)


@settings(deadline=None, max_examples=60)
@given(paths, st.integers(1, 5))
def test_a_network_is_trained_on_what_it_is_given_when_it_serves(
    happened: list[Happened], history: int
) -> None:
    log = encoded(happened, items=["a", "b", "c", "d"])
    found = Sequences.of(log.interactions())
    requests = replay(log, NOON, at(10**6), 10**6, 10**15)
    asked_at = dict(zip(requests.stop.tolist(), requests.as_of.tolist(), strict=True))
    network = Listening()
    items = EncoderItems(
        np.eye(4, dtype=np.float32),
        np.ones(4, np.float32),
        np.ones(1, np.float32),
        np.array([history], np.int32),
    )
    encoder = SessionEncoder(items, b"")
    encoder.__dict__["_session"] = network
    for row, target in enumerate(found.targets.tolist()):
        encoder.query(log.window(found.first[target], target), asked_at[target])
        batch = found.batch(np.array([row]), history)
        assert network.given[VALUES].argmax(axis=2).tolist() == batch.items.tolist()
        assert network.given[TYPES].tolist() == batch.types.tolist()
        assert network.given[STEPS].tolist() == batch.steps.tolist()
        np.testing.assert_allclose(network.given[AGES], batch.ages.numpy(), rtol=1e-6)


def test_a_moment_is_the_same_to_the_microsecond() -> None:
    log = encoded([Happened("ann", item, 0) for item in "abc"]).interactions()
    apart = replace(log, time=log.time + np.array([0, 0, 1]))
    batch = Sequences.of(apart).batch(np.array([1]), history=2)
    assert batch.steps.tolist() == [[0, 0]]
    later = Sequences.of(replace(log, time=log.time + np.array([0, 1, SECOND])))
    assert later.batch(np.array([1]), history=2).steps.tolist() == [[0, 1]]
