"""Each baseline on a log where the answer is obvious, and the rules that hold for all."""

from collections.abc import Sequence

import numpy as np
import pytest

from feature_repo.encoded_log import EncodedLog
from feature_repo.schema import DAY, MINUTE, EventType
from serving.sources.session_neighbours import NeighbourWeights
from tests.training.tiny_log import Happened, at, encoded
from training.evaluation.baselines import (
    Baseline,
    Covisitation,
    FittedBaseline,
    ImplicitALS,
    OwnItemsFirst,
    Past,
    PersonalFrequency,
    Popularity,
    SessionNeighbours,
)
from training.evaluation.metrics import NO_ITEM
from training.replay import Replay, replay

DAYS = DAY // MINUTE
CUT = 30 * DAYS
"""Minute at which the past ends."""
V_STAN = SessionNeighbours(NeighbourWeights())
VMIS_KNN = SessionNeighbours(
    NeighbourWeights(session_age=np.inf, distance=np.inf, rarity=0, novelty=1, step_decay=3)
)
OWN_ITEMS_FIRST = OwnItemsFirst(V_STAN, boost=1, decay=4)
ALS = ImplicitALS(factors=4, regularization=0.1, alpha=10, iterations=10)
COVISITATION = Covisitation(decay=0.8)
PERSONAL = PersonalFrequency(half_life=14, purchase=3)
ALL: Sequence[Baseline] = (Popularity(14), PERSONAL, COVISITATION, ALS, VMIS_KNN, V_STAN, OWN_ITEMS_FIRST)


def visits(*sessions: str, day: float = 28) -> list[Happened]:
    """A visit of a shopper of its own for each word: a letter is an item, and a minute passes between two."""
    return [
        Happened(f"s{number:03}", item, day * DAYS + minute)
        for number, session in enumerate(sessions)
        for minute, item in enumerate(session)
    ]


def mine(items: str, minute: float = CUT, kind: EventType = EventType.VIEW) -> list[Happened]:
    """What the shopper who asks did."""
    return [Happened("me", item, minute + number, kind) for number, item in enumerate(items)]


def asked_by_me(log: EncodedLog) -> Replay:
    """The last request of the shopper who asks, whose target is the last event of the log."""
    requests = replay(log, at(CUT), at(2 * CUT), 64, 90 * DAY)
    own = np.flatnonzero(log.shopper_keys[requests.shopper] == "u:me")
    return requests.take(own[-1:])


def answer(baseline: Baseline, happened: list[Happened], missing: str = "") -> str:
    """Items that the baseline answers the last event of the shopper who asks with, best first.

    Items of ``missing`` may not be shown.
    """
    log = encoded(happened)
    past = Past.before(at(CUT), log, ~np.isin(log.item_ids.astype(str), list(missing)))
    fitted = FittedBaseline(past, baseline.fit(past), Popularity(half_life=14).order(past))
    [slate] = fitted.answers(asked_by_me(log))
    return "".join(log.item_ids[slate[slate != NO_ITEM]])


def test_popularity_answers_with_what_most_have_met() -> None:
    log = [*visits("a", "a", "a", "b", "b", "c"), *mine("cz")]
    assert answer(Popularity(half_life=14), log).startswith("ab")


def test_the_half_life_of_popularity_decides_between_long_and_lately() -> None:
    log = [*visits("aaaa", day=1), *visits("b", day=29), *mine("cz")]
    assert answer(Popularity(half_life=365), log).startswith("ab")
    assert answer(Popularity(half_life=1), log).startswith("ba")


def test_covisitation_answers_with_what_is_met_together() -> None:
    log = [*visits("ab", "ab", "cd", "cd", "ce"), *mine("az")]
    assert answer(COVISITATION, log).startswith("b")


def test_the_decay_of_covisitation_decides_between_old_and_new_items_of_the_window() -> None:
    log = [*visits("ab", "cd", "ab", "cd", "eb", "fd"), *mine("acz")]
    assert answer(Covisitation(decay=0.1), log).startswith("d")
    together = answer(Covisitation(decay=1.0), [*log[:-3], *mine("acxz")])
    assert set(together[:2]) == {"b", "d"}


@pytest.mark.parametrize(("met", "expected"), [("a", "bc"), ("e", "fg")])
def test_factors_tell_two_kinds_of_shoppers_apart(met: str, expected: str) -> None:
    log = [*visits(*["abc"] * 10, *["efg"] * 10), *mine(met + "z")]
    assert set(answer(ALS, log)[:2]) == set(expected)


def test_factors_follow_the_window_of_a_shopper_whom_the_past_knows_otherwise() -> None:
    log = [*visits(*["abc"] * 10, *["efg"] * 10), *mine("a", 20 * DAYS), *mine("efgz")]
    assert set(answer(ALS, log)[:2]) <= set("ef")  # the newest item, g, is excluded


def test_a_shopper_without_any_history_gets_what_is_popular_from_all() -> None:
    log = [*visits("ab", "ab", "ab", "bc"), Happened("me", "z", CUT)]
    assert {answer(baseline, log) for baseline in ALL} == {"bacz"}


@pytest.mark.parametrize("baseline", [VMIS_KNN, V_STAN])
def test_neighbours_answer_with_what_sessions_like_this_one_held(baseline: Baseline) -> None:
    log = [*visits("xya", "xya", "xpb", "qrc", "qrc"), *mine("xyz")]
    assert answer(baseline, log).startswith("a")


def test_v_stan_prefers_what_stood_near_and_vmis_knn_does_not_know_the_distance() -> None:
    log = [*visits("xbpqrstua", "xbpqrstua", "cd"), *mine("xz")]
    assert answer(V_STAN, log).startswith("b")
    assert answer(VMIS_KNN, log).startswith("ab")  # all are alike, so they stand in the order of the items


def test_own_items_stand_before_those_of_the_neighbours() -> None:
    log = [*visits("ya", "ya", "cd"), *mine("cxyz")]
    assert answer(V_STAN, log).startswith("a")
    assert set(answer(OwnItemsFirst(V_STAN, boost=5, decay=50), log)[:2]) == set("cx")
    assert answer(OwnItemsFirst(V_STAN, boost=0.01, decay=4), log).startswith("a")


def test_personal_frequency_answers_with_what_the_shopper_met_most_and_then_with_the_popular() -> None:
    log = [*visits("dd", "d"), *mine("abab", 10 * DAYS), *mine("acz")]
    assert answer(PERSONAL, log)[:3] == "abd"  # the newest item, c, is excluded


def test_the_half_life_of_personal_frequency_decides_between_often_and_lately() -> None:
    log = [*visits("d"), *mine("aaa", 1 * DAYS), *mine("bcz")]
    assert answer(PersonalFrequency(half_life=365, purchase=1), log).startswith("ab")
    assert answer(PersonalFrequency(half_life=1, purchase=1), log).startswith("ba")


def test_a_purchase_may_count_more() -> None:
    log = [*visits("d"), *mine("aa", 1 * DAYS), *mine("b", 1 * DAYS, EventType.PURCHASE), *mine("cz")]
    assert answer(PersonalFrequency(half_life=365, purchase=1), log).startswith("ab")
    assert answer(PersonalFrequency(half_life=365, purchase=3), log).startswith("ba")


def test_a_whole_history_holds_each_interaction_once() -> None:
    log = encoded([*mine("ab", 1 * DAYS), *mine("cd"), *mine("z", CUT + 9)])
    past = Past.before(at(CUT), log, np.ones(len(log.item_ids), dtype=bool))
    requests = asked_by_me(log)
    fitted = FittedBaseline(past, PERSONAL.fit(past), np.zeros(0, np.int32))
    [slate] = fitted.answers(requests)
    assert sorted(log.item_ids[slate[slate != NO_ITEM]]) == ["a", "b", "c"]


@pytest.mark.parametrize("baseline", ALL)
def test_nobody_shows_what_is_excluded_or_not_to_be_had_or_an_item_twice(baseline: Baseline) -> None:
    log = [*visits("abcdefghij", "bcdefghija", "jihgfedcba"), *mine("abc", 10 * DAYS), *mine("abcdz")]
    found = answer(baseline, log, missing="bz")
    assert not set(found) & set("bdz")
    assert sorted(found) == list("acefghij")


@pytest.mark.parametrize("baseline", ALL)
def test_what_comes_after_the_past_changes_nothing_but_by_the_window(baseline: Baseline) -> None:
    before, window = visits("abc", "abd", "cde"), mine("abz")
    later = [Happened("other", item, CUT + 100 + n) for n, item in enumerate("dcbadcbadcba")]
    assert answer(baseline, [*before, *window]) == answer(baseline, [*before, *later, *window])


@pytest.mark.parametrize("baseline", ALL)
def test_requests_are_answered_alone_as_in_company(baseline: Baseline) -> None:
    log = encoded([*visits("abcd", "bcde", "aedc"), *mine("abcdeabcdz")])
    past = Past.before(at(CUT), log, np.ones(len(log.item_ids), dtype=bool))
    fitted = FittedBaseline(past, baseline.fit(past), Popularity(half_life=14).order(past))
    requests = replay(log, at(CUT), at(2 * CUT), 64, 90 * DAY)
    together = fitted.answers(requests)
    for row in range(len(requests)):
        np.testing.assert_array_equal(fitted.answers(requests.take(np.array([row])))[0], together[row])
