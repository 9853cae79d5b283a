"""The session encoder as it serves: what its network is given, and what it makes of the answer."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.arrays import Float32
from feature_repo.schema import HOUR, MINUTE, SECOND, EventType
from feature_repo.session_features import Window
from serving.session_encoder import (
    AGE_SCALE,
    AGES,
    QUERY,
    STEPS,
    TYPES,
    VALUES,
    EncoderItems,
    SessionEncoder,
    log_age,
)
from serving.vector_index import VectorIndex
from tests.tiny_bundle import (
    CATEGORY_OF,
    NAMES,
    TRAINED_AT,
    UNKNOWN_TO_ENCODER,
    codes,
    log_probability,
    tiny_encoder,
)

NOW = TRAINED_AT
VIEW, CART = EventType.VIEW.code, EventType.ADD_TO_CART.code
LIGHT = np.array([CATEGORY_OF[name] == 1 for name in NAMES])
UNKNOWN = NAMES.index(UNKNOWN_TO_ENCODER)


def window(*names: str, types: tuple[int, ...] = (), minutes: tuple[float, ...] = ()) -> Window:
    """Events at so many minutes before NOW, the oldest first."""
    before = minutes or tuple(range(len(names), 0, -1))
    return Window(
        codes(names),
        np.array(types or [VIEW] * len(names), np.int8),
        np.array([NOW - int(minute * MINUTE) for minute in before], np.int64),
    )


class Listening:
    """A network that remembers what it was given and always answers the same."""

    def __init__(self, answer: list[float]) -> None:
        self.answer = np.array([answer], np.float32)
        self.given: dict[str, Any] = {}

    def run(self, outputs: list[str], given: dict[str, Any]) -> list[Float32]:
        assert outputs == [QUERY]
        self.given = given
        return [self.answer]


def listening(encoder: SessionEncoder, answer: list[float]) -> Listening:
    """Puts a listener where the encoder's network is."""
    network = Listening(answer)
    encoder.__dict__["_session"] = network
    return network


def test_the_network_is_given_the_newest_events_first() -> None:
    encoder = tiny_encoder(history=3)
    network = listening(encoder, [1, 0, 0])
    seen = window("rug", "lamp", "desk", "mug", types=(VIEW, CART, VIEW, CART), minutes=(90, 60, 60, 1))
    encoder.query(seen, NOW)
    assert network.given[VALUES].tolist() == [[[3, 0, 0], [0, 0, 3], [0, 3, 0]]]  # mug, desk, lamp
    assert network.given[TYPES].tolist() == [[CART, VIEW, CART]]
    assert network.given[STEPS].tolist() == [[0, 1, 1]]  # moments, not events
    seconds = np.array([[60, 3600, 3600]])
    np.testing.assert_allclose(network.given[AGES], np.log1p(seconds) / AGE_SCALE, rtol=1e-6)
    kinds = {name: (array.dtype, array.shape[:2]) for name, array in network.given.items()}
    assert kinds == {
        VALUES: (np.dtype(np.float32), (1, 3)),
        TYPES: (np.dtype(np.int64), (1, 3)),
        STEPS: (np.dtype(np.int64), (1, 3)),
        AGES: (np.dtype(np.float32), (1, 3)),
    }


def test_a_window_longer_than_the_history_is_given_as_its_newest_part() -> None:
    encoder = tiny_encoder(history=2)
    network = listening(encoder, [1, 0, 0])
    encoder.query(window("lamp", "desk", "mug", "kettle"), NOW)
    whole = network.given
    encoder.query(window("mug", "kettle"), NOW)
    for name, array in whole.items():
        np.testing.assert_array_equal(array, network.given[name], err_msg=name)


def test_log_probabilities_by_hand() -> None:
    found = log_probability(tiny_encoder(), window("mug", "lamp"), NOW)
    total = 3 * np.exp(2) + 6 + np.exp(-2)
    expected = np.where(LIGHT, 2, 0) - np.log(total)
    expected[UNKNOWN] = -2 - np.log(total)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert found.dtype == np.float32


def test_an_item_that_it_cannot_know_is_as_far_away_as_can_be() -> None:
    encoder = tiny_encoder()
    listening(encoder, [-0.6, -0.8, 0])
    found = log_probability(encoder, window("mug"), NOW)
    assert found.argmin() == UNKNOWN


def test_a_window_of_unknown_items_alone_makes_all_others_equally_likely() -> None:
    found = log_probability(tiny_encoder(), window(UNKNOWN_TO_ENCODER), NOW)
    others = np.delete(found, UNKNOWN)
    np.testing.assert_allclose(others, -np.log(9 + np.exp(-2)), rtol=1e-5)


def test_without_an_interaction_nothing_is_expected() -> None:
    encoder = tiny_encoder()
    index = VectorIndex.of(encoder.items.embeddings)
    assert encoder.expected(index, window(), NOW) is None


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=6),
    st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3),
    st.floats(0.5, 60),
)
def test_probabilities_sum_to_one_also_where_one_item_is_all_but_certain(
    names: list[str], answer: list[float], scale: float
) -> None:
    tiny = tiny_encoder()
    items: EncoderItems = replace(tiny.items, scale=np.array([scale], np.float32))
    encoder = SessionEncoder(items, tiny.network)
    listening(encoder, answer)
    found = log_probability(encoder, window(*names), NOW)
    assert np.isfinite(found).all()
    assert np.exp(found.astype(np.float64)).sum() == pytest.approx(1, abs=1e-4)


def test_asking_leaves_the_items_as_they_were() -> None:
    encoder = tiny_encoder()
    before = {name: array.copy() for name, array in vars(encoder.items).items()}
    first = log_probability(encoder, window("lamp"), NOW)
    np.testing.assert_array_equal(log_probability(encoder, window("lamp"), NOW), first)
    for name, array in before.items():
        np.testing.assert_array_equal(getattr(encoder.items, name), array, err_msg=name)


def test_ages_are_logarithms_of_seconds_and_the_future_is_now() -> None:
    ages = log_age(np.array([-HOUR, 0, SECOND, 10**6 * SECOND], np.int64))
    np.testing.assert_allclose(ages, np.log([1, 1, 2, 1 + 10**6]) / AGE_SCALE, rtol=1e-6)
    assert ages.dtype == np.float32
