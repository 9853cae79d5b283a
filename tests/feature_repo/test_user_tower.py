"""The user tower in numpy: known answers, and the same vectors as the model it was trained as."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.arrays import Float32
from feature_repo.schema import MINUTE, EventType
from feature_repo.session_features import IS_INTERACTION, Window
from feature_repo.user_tower import UserTower, unit
from tests.feature_repo.log_events import NOON
from training.config import EmbeddingConfig
from training.embedding_model import TowerModel
from training.sequences import Batch

VIEW, PURCHASE = EventType.VIEW.code, EventType.PURCHASE.code
EAST, NORTH, WEST, NOWHERE = range(4)
"""Items, named for where their vectors point."""


def tower(recency: list[float], purchase: float = 0.0) -> UserTower:
    """The four items; ``east`` was learned with twice the length of the others."""
    event_type = np.zeros(len(EventType), np.float32)
    event_type[PURCHASE] = purchase
    return UserTower(
        embeddings=np.array([[1, 0], [0, 1], [-1, 0], [0, 0]], np.float32),
        item_weight=np.array([2, 1, 1, 0], np.float32),
        recency=np.array(recency, np.float32),
        event_type=event_type,
    )


def window(*items: int, types: tuple[int, ...] = ()) -> Window:
    return Window(
        np.array(items, np.int32),
        np.array(types or [VIEW] * len(items), np.int8),
        NOON + np.arange(len(items), dtype=np.int64) * MINUTE,
    )


def direction(x: float, y: float) -> Float32:
    return np.array([x, y], np.float32) / np.float32(np.hypot(x, y))


def test_a_session_is_the_weighted_mean_of_its_items_at_length_one() -> None:
    halving = tower(recency=[0, np.log(1 / 2), np.log(1 / 4)], purchase=np.log(3))
    vector = halving.session_vector(window(EAST, NORTH, WEST, types=(PURCHASE, VIEW, VIEW)))
    # east: a quarter for age, thrice for the purchase, twice for its length; north: half; west: one
    np.testing.assert_allclose(vector, direction(2 * 3 / 4 - 1, 1 / 2), rtol=1e-6)
    assert vector.dtype == np.float32


def test_with_negative_recency_the_latest_item_weighs_most() -> None:
    fading = tower(recency=[0, -1, -2])
    north_last, west_last = window(WEST, NORTH), window(NORTH, WEST)
    assert fading.session_vector(north_last) @ direction(0, 1) > np.sqrt(0.5)
    assert fading.session_vector(west_last) @ direction(-1, 0) > np.sqrt(0.5)


def test_only_as_many_of_the_newest_events_count_as_there_are_recency_weights() -> None:
    short = tower(recency=[0, -0.5])
    np.testing.assert_array_equal(
        short.session_vector(window(EAST, EAST, WEST, NORTH)), short.session_vector(window(WEST, NORTH))
    )


def test_the_long_term_taste_knows_no_age() -> None:
    fading = tower(recency=[0, -9], purchase=np.log(2))
    forth = fading.user_vector(np.array([EAST, NORTH], np.int32), np.array([VIEW, PURCHASE], np.int8))
    back = fading.user_vector(np.array([NORTH, EAST], np.int32), np.array([PURCHASE, VIEW], np.int8))
    np.testing.assert_allclose(forth, direction(2, 2), rtol=1e-6)
    np.testing.assert_allclose(back, forth, rtol=1e-6)


@pytest.mark.parametrize("nothing", [window(), window(NOWHERE), window(NOWHERE, NOWHERE)])
def test_without_a_learned_item_the_vector_is_zero(nothing: Window) -> None:
    plain = tower(recency=[0, 0])
    assert plain.session_vector(nothing).tolist() == [0, 0]
    assert plain.user_vector(nothing.items, nothing.types).tolist() == [0, 0]


def test_items_that_cancel_out_leave_zero_and_not_nan() -> None:
    opposite = tower(recency=[0, 0, 0])
    assert opposite.session_vector(window(EAST, WEST, WEST)).tolist() == [0, 0]


def test_unit_scales_to_length_one_and_leaves_zero() -> None:
    np.testing.assert_allclose(unit(np.array([3, 4], np.float32)), [0.6, 0.8], rtol=1e-6)
    assert unit(np.zeros(2, np.float32)).tolist() == [0, 0]


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_numpy_and_torch_give_the_same_vector(seed: int, length: int) -> None:
    random, items, history, dimensions = np.random.default_rng(seed), 30, 8, 16
    torch.manual_seed(seed)
    model = TowerModel(items, EmbeddingConfig(dimensions=dimensions, history=history)).eval()
    torch.nn.init.normal_(model.event_type)
    seen = torch.from_numpy(random.random(items) < 0.8)
    shopper = window(
        *random.integers(0, items, length), types=tuple(random.choice(np.flatnonzero(IS_INTERACTION), length))
    )
    newest = shopper.take(slice(-history, None))
    count = newest.items.size
    latest_first = np.zeros((2, 1, history), np.int64)
    latest_first[:, 0, :count] = newest.items[::-1], newest.types[::-1]
    codes, types = map(torch.from_numpy, latest_first)
    present = torch.from_numpy(np.arange(history) < count)[None]
    values = (model.vectors * seen[:, None])[codes]
    batch = Batch(codes, types, torch.zeros_like(types), present.float(), present, torch.zeros(1))
    with torch.no_grad():
        expected = model.query(values, batch)[0].numpy()
    np.testing.assert_allclose(model.tower(seen).session_vector(shopper), expected, rtol=1e-5, atol=1e-6)
