"""The places of a slate: for any candidates, rules hold or are named, nothing is lost and nothing comes twice."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.reranking import Cap, Rules, Selection, best, select
from serving.reranking.selection import MAX_CAPS, NOT_CAPPED
from tests.serving.candidates import MOST, Candidates, candidates, caps_of, diversities, fixed_of

lengths = st.integers(0, MOST + 3)


def selected(
    found: Candidates, k: int, data: st.DataObject, caps: list[Cap]
) -> tuple[Selection, dict[int, int]]:
    n = found.items.size
    fixed = data.draw(fixed_of(n, MOST + 3))
    diversity = data.draw(diversities(found.vectors))
    return select(found.items, found.scores, k, Rules(fixed, caps, diversity)), fixed


def broken(rows: list[int], caps: list[Cap]) -> list[str]:
    """Names of the caps that a slate does not keep, by counting."""
    counts = {cap.name: Counter(cap.group[rows].tolist()) for cap in caps}
    return [
        cap.name
        for cap in caps
        if any(n > cap.most for group, n in counts[cap.name].items() if group != NOT_CAPPED)
    ]


@given(candidates(), lengths, st.data())
def test_a_slate_is_as_long_as_it_can_be_and_shows_nothing_twice(
    found: Candidates, k: int, data: st.DataObject
) -> None:
    selection, _ = selected(found, k, data, data.draw(caps_of(found.items.size)))
    rows = selection.rows.tolist()
    assert len(rows) == len(set(rows)) == min(k, found.items.size)
    assert set(rows) <= set(range(found.items.size))


@given(candidates(), lengths, st.data())
def test_a_cap_is_kept_or_named(found: Candidates, k: int, data: st.DataObject) -> None:
    caps = data.draw(caps_of(found.items.size))
    selection, _ = selected(found, k, data, caps)
    assert list(selection.relaxed) == broken(selection.rows.tolist(), caps)


@given(candidates(), lengths, st.data())
def test_a_cap_that_can_be_kept_is_kept(found: Candidates, k: int, data: st.DataObject) -> None:
    [cap] = data.draw(caps_of(found.items.size).filter(lambda caps: len(caps) == 1))
    rules = Rules(caps=[cap], diversity=data.draw(diversities(found.vectors)))
    selection = select(found.items, found.scores, k, rules)
    groups = Counter(cap.group.tolist())
    room = sum(n if group == NOT_CAPPED else min(n, cap.most) for group, n in groups.items())
    assert bool(selection.relaxed) == (min(k, found.items.size) > room)


@given(candidates(), lengths, st.data())
def test_what_is_fixed_stands_in_its_place(found: Candidates, k: int, data: st.DataObject) -> None:
    selection, fixed = selected(found, k, data, data.draw(caps_of(found.items.size)))
    rows = selection.rows.tolist()
    for place, row in fixed.items():
        if place < len(rows):
            assert rows[place] == row


@given(candidates(), lengths, st.data())
def test_without_rules_it_is_the_rankers_order(found: Candidates, k: int, data: st.DataObject) -> None:
    expected, _ = best(found.items, found.scores, k)
    wide = Cap("wide", np.zeros(found.items.size, np.int32), MOST)
    for rules in (Rules(), Rules(caps=[wide])):
        rows = select(found.items, found.scores, k, rules).rows
        np.testing.assert_array_equal(found.items[rows], expected)


@given(candidates(), lengths, st.data())
def test_caps_cost_no_more_than_they_must(found: Candidates, k: int, data: st.DataObject) -> None:
    """One cap, no diversity: place by place, the best that does not break it, or else the best of all."""
    [cap] = data.draw(caps_of(found.items.size).filter(lambda caps: len(caps) == 1))
    left = select(found.items, found.scores, found.items.size).rows.tolist()
    expected: list[int] = []
    for _ in range(min(k, len(left))):
        keeping = [row for row in left if has_room(cap, expected, row)]
        expected.append((keeping or left)[0])
        left.remove(expected[-1])
    assert select(found.items, found.scores, k, Rules(caps=[cap])).rows.tolist() == expected


def has_room(cap: Cap, rows: list[int], row: int) -> bool:
    group = cap.group[row]
    return bool(group == NOT_CAPPED or np.count_nonzero(cap.group[rows] == group) < cap.most)


@given(candidates(), st.permutations(range(MOST)), lengths, st.data())
def test_the_order_of_the_candidates_does_not_matter(
    found: Candidates, order: list[int], k: int, data: st.DataObject
) -> None:
    shuffled = [row for row in order if row < found.items.size]
    caps = data.draw(caps_of(found.items.size))
    rows = select(found.items, found.scores, k, Rules(caps=caps)).rows
    others = select(
        found.items[shuffled],
        found.scores[shuffled],
        k,
        Rules(caps=[cap.of(np.array(shuffled, np.int64)) for cap in caps]),
    ).rows
    np.testing.assert_array_equal(found.items[shuffled][others], found.items[rows])


def test_the_last_cap_gives_way_first() -> None:
    items, scores = np.arange(4, dtype=np.int32), np.array([4, 3, 2, 1], np.float32)
    seller = Cap("seller", np.array([0, 0, 1, 2], np.int32), 1)
    brand = Cap("brand", np.array([0, 1, 0, 0], np.int32), 1)
    found = select(items, scores, 4, Rules(caps=[seller, brand]))
    assert found == Selection(found.rows, ("seller", "brand"))
    assert found.rows.tolist() == [0, 2, 3, 1]  # 1 would break the cap on sellers, 2 and 3 that on brands
    assert select(items, scores, 3, Rules(caps=[seller, brand])).relaxed == ("brand",)
    assert select(items, scores, 2, Rules(caps=[brand, seller])).rows.tolist() == [0, 1]
    assert select(items, scores, 2, Rules(caps=[brand, seller])).relaxed == ("seller",)


def test_who_holds_a_place_counts_before_the_places_above_are_given_away() -> None:
    items, scores = np.arange(4, dtype=np.int32), np.array([4, 3, 2, 1], np.float32)
    brand = Cap("brand", np.array([0, 1, 2, 0], np.int32), 1)
    found = select(items, scores, 3, Rules({2: 3}, [brand]))
    assert found.rows.tolist() == [1, 2, 3]
    assert found.relaxed == ()


def test_what_makes_no_sense_is_refused() -> None:
    items, scores = np.arange(2, dtype=np.int32), np.ones(2, np.float32)
    with pytest.raises(ValueError, match="fixed at two places"):
        select(items, scores, 2, Rules({0: 1, 1: 1}))
    with pytest.raises(ValueError, match="cap brand of 0"):
        Cap("brand", np.zeros(2, np.int32), 0)
    with pytest.raises(ValueError, match="too many"):
        select(items, scores, 2, Rules(caps=[Cap("brand", np.zeros(2, np.int32), 1)] * (MAX_CAPS + 1)))
