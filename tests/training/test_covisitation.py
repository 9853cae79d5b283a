"""Co-visitation: pairs are counted by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.encoded_log import EncodedLog
from feature_repo.schema import DAY, MINUTE, EventType
from tests.training.tiny_log import Happened, encoded
from training.covisitation import EVENT_WEIGHTS, MAX_STEPS, NEIGHBOURS, covisitation

DAY_IN_MINUTES = DAY // MINUTE


def scores_of(log: EncodedLog) -> dict[tuple[str, str], float]:
    """Score of each pair (item, neighbour)."""
    found = covisitation(log)
    return {
        (log.item_ids[item], log.item_ids[neighbour]): float(score)
        for item, row in enumerate(found.items)
        for neighbour, score in zip(row, found.scores[item], strict=True)
        if neighbour >= 0
    }


def visit(shopper: str, items: str, start: float = 0) -> list[Happened]:
    """One item per letter, a minute apart."""
    return [Happened(shopper, item, start + minute) for minute, item in enumerate(items)]


def test_scores_are_those_computed_by_hand() -> None:
    # a is met twice, b and c once. Steps: a-b 1, a-c 2, b-c 1, b-a 2, c-a 1; a-a is no pair.
    found = scores_of(encoded(visit("ann", "abca")))
    root2 = 2**0.5
    expected = {
        ("a", "b"): (1 + 0.5 / 2) / root2,
        ("a", "c"): (1 / 2 + 0.5) / root2,
        ("b", "a"): (1 / 2 + 0.5) / root2,
        ("b", "c"): 1.0,
        ("c", "a"): (1 + 0.5 / 2) / root2,
        ("c", "b"): 0.5,
    }
    assert found == pytest.approx(expected)


def test_forward_counts_twice_as_much_as_backward() -> None:
    found = scores_of(encoded(visit("ann", "ab")))
    assert found["a", "b"] == 2 * found["b", "a"] == 1.0


@pytest.mark.parametrize("kind", [EventType.VIEW, EventType.CLICK, *EVENT_WEIGHTS])
def test_a_pair_counts_what_its_later_event_is_worth(kind: EventType) -> None:
    worth = EVENT_WEIGHTS.get(kind, 1)
    later = scores_of(encoded([Happened("ann", "a", 0), Happened("ann", "b", 1, kind)]))
    assert later == pytest.approx({("a", "b"): worth, ("b", "a"): worth / 2})
    earlier = scores_of(encoded([Happened("ann", "a", 0, kind), Happened("ann", "b", 1)]))
    assert earlier == pytest.approx({("a", "b"): 1, ("b", "a"): 1 / 2})


def test_a_day_between_two_items_still_makes_a_pair_and_more_does_not() -> None:
    day = [Happened("ann", "a", 0), Happened("ann", "b", DAY_IN_MINUTES)]
    longer = [Happened("ann", "a", 0), Happened("ann", "b", DAY_IN_MINUTES + 1)]
    assert set(scores_of(encoded(day))) == {("a", "b"), ("b", "a")}
    assert scores_of(encoded(longer)) == {}


def test_two_shoppers_make_no_pair() -> None:
    assert scores_of(encoded([Happened("ann", "a", 0), Happened("bob", "b", 1)])) == {}


@pytest.mark.parametrize(
    "between",
    [
        Happened("ann", "x", 0.5, EventType.IMPRESSION),
        Happened("ann", "x", 0.5, EventType.REMOVE_FROM_CART),
        Happened("ann", None, 0.5, EventType.SEARCH),
    ],
)
def test_what_is_no_interaction_is_no_step_between(between: Happened) -> None:
    found = scores_of(encoded([Happened("ann", "a", 0), between, Happened("ann", "b", 1)]))
    assert found == {("a", "b"): 1.0, ("b", "a"): 0.5}


def test_items_further_apart_than_the_most_steps_make_no_pair() -> None:
    path = "abcdefghijklmnop"[: MAX_STEPS + 2]
    found = scores_of(encoded(visit("ann", path)))
    assert found["a", path[MAX_STEPS]] == pytest.approx(1 / MAX_STEPS)
    assert ("a", path[MAX_STEPS + 1]) not in found


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text("abcd", min_size=1, max_size=8), min_size=1, max_size=4))
def test_a_log_twice_as_long_gives_the_same_scores(visits: list[str]) -> None:
    log = list(itertools.chain(*(visit(f"shopper {n}", items) for n, items in enumerate(visits))))
    again = [event._replace(shopper=f"another {event.shopper}") for event in log]
    assert scores_of(encoded([*log, *again])) == pytest.approx(scores_of(encoded(log)))


def test_rows_are_sorted_by_score_and_padded_with_minus_one() -> None:
    found = covisitation(encoded(visit("ann", "abc"), items=["never met"]))
    neighbours, scores = found.items, found.scores
    assert neighbours.shape == scores.shape == (4, NEIGHBOURS)
    assert neighbours[0].tolist() == [1, 2] + [-1] * (NEIGHBOURS - 2)
    assert (np.diff(scores, axis=1) <= 0).all()
    assert (neighbours[3] == -1).all()
    assert (scores[neighbours == -1] == 0).all()


def test_only_the_best_neighbours_are_kept() -> None:
    more = NEIGHBOURS + 5
    log = []
    for number in range(more):  # partner p<n> is met with the hub, then with n others, so its score falls
        shopper = f"shopper {number}"
        items = ["hub", f"p{number:03}", *(f"other {number} {n}" for n in range(number))]
        log += [Happened(shopper, item, 2 * DAY_IN_MINUTES * (n > 1) * n + n) for n, item in enumerate(items)]
        log += [Happened(f"{shopper} again {n}", f"p{number:03}", 0) for n in range(number)]
    table = encoded(log)
    neighbours = covisitation(table).items
    hub = int(np.flatnonzero(table.item_ids == "hub")[0])
    assert [table.item_ids[code] for code in neighbours[hub]] == [f"p{n:03}" for n in range(NEIGHBOURS)]


def test_an_empty_log_has_no_neighbours() -> None:
    found = covisitation(encoded([], items=["a", "b"]))
    assert (found.items == -1).all()
    assert (found.scores == 0).all()
