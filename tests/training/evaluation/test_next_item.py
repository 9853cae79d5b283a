"""The next item: every step is asked for, with what was known before it."""

import numpy as np

from feature_repo.schema import DAY, MINUTE, EventType
from feature_repo.settings import Settings
from tests.training.evaluation.asked import Described, described
from tests.training.tiny_log import Happened, at, encoded
from training.evaluation.next_item import first_item, interactions_before, never_met_item, next_item

SETTINGS = Settings()
CUT = 100
"""Minute from which on is tested."""
LOG = [
    Happened("ann", "a", 0),
    Happened("ann", "b", 1),
    Happened("bob", "c", 2),
    Happened("ann", "c", CUT),
    Happened("ann", "c", CUT + 1),
    Happened("ann", "new", CUT + 2),
    Happened("ann", "a", CUT + 3),
    Happened("cy", "b", CUT + 4),
    Happened("cy", "a", CUT + 5),
]


def test_every_step_after_the_cut_of_a_shopper_with_a_past_wants_the_item_it_went_to() -> None:
    asked = next_item(encoded(LOG), at(CUT), at(CUT + 10), SETTINGS)
    assert described(asked.replay) == [
        Described("u:ann", "ab", "b", "c"),
        Described("u:ann", "abccnew", "new", "a"),
        Described("u:cy", "b", "b", "a"),
    ]


def test_a_reload_is_no_target_and_an_item_nobody_had_met_lowers_the_ceiling() -> None:
    asked = next_item(encoded(LOG), at(CUT), at(CUT + 10), SETTINGS)
    assert (asked.targets, asked.known_targets) == (4, 3)
    assert asked.ceiling == 3 / 4
    assert described(never_met_item(encoded(LOG), at(CUT), at(CUT + 10), SETTINGS).replay) == [
        Described("u:ann", "abcc", "c", "new")
    ]


def test_first_items_are_asked_for_apart() -> None:
    asked = first_item(encoded(LOG), at(CUT), at(CUT + 10), SETTINGS)
    assert described(asked.replay) == [Described("u:cy", "", "", "b")]


def test_nothing_from_the_moment_of_the_target_on_is_in_a_window() -> None:
    asked = next_item(encoded(LOG), at(CUT), at(CUT + 10), SETTINGS).replay
    for row in range(len(asked)):
        target = asked.log.time[asked.stop[row]]
        assert (asked.window(row).times < target).all()
        assert asked.as_of[row] <= target


def test_the_newest_item_stays_excluded_where_the_window_is_lost() -> None:
    asked = next_item(encoded(LOG), at(CUT), at(CUT + 10), SETTINGS).replay.without_windows()
    assert [(one.window, one.excluded) for one in described(asked)] == [("", "b"), ("", "new"), ("", "b")]


def test_an_event_without_interest_hides_no_newest_item() -> None:
    log = [
        Happened("ann", "a", 0),
        Happened("ann", None, 1, EventType.SEARCH),
        Happened("ann", "b", 2),
        *LOG[2:3],
    ]
    asked = next_item(encoded(log), at(1), at(CUT), SETTINGS)
    assert asked.targets == 1
    raw = described(asked.replay)
    assert raw == []  # nobody had met b before
    [never] = described(never_met_item(encoded(log), at(1), at(CUT), SETTINGS).replay)
    assert (never.window, never.excluded, never.wanted) == ("a-", "a", "b")


def test_a_shopper_whose_window_was_forgotten_still_has_a_past() -> None:
    later = int(SETTINGS.window_ttl_days * DAY // MINUTE) + 2
    log = encoded([*LOG[:3], Happened("ann", "a", later)])
    asked = next_item(log, at(CUT), at(later + 1), SETTINGS)
    assert described(asked.replay) == [Described("u:ann", "", "", "a")]
    assert interactions_before(asked.replay).tolist() == [2]


def test_interactions_before_are_those_of_the_shopper_alone() -> None:
    asked = next_item(encoded(LOG), at(CUT), at(CUT + 10), SETTINGS).replay
    assert interactions_before(asked).tolist() == [2, 5, 1]


def test_a_sample_knows_what_it_was_drawn_from() -> None:
    log = encoded([Happened("ann", "ab"[minute % 2], minute) for minute in range(60)])
    asked = next_item(log, at(10), at(60), SETTINGS)
    sample = asked.sample(20, seed=1)
    assert (len(asked), len(sample), sample.drawn_from) == (50, 20, 50)
    assert asked.sample(0, seed=1) is asked
    assert (np.diff(sample.replay.as_of) > 0).all()
