"""What was shown teaches the ranker: features as served, labels from what shoppers did with them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.arrays import Float32
from feature_repo.events import LoggedEvent, to_table
from feature_repo.ranking_features import POSITION, RANKING_COLUMNS
from feature_repo.session_window import WindowEvent
from serving.in_time.attempt import Rung
from serving.metrics import Metrics
from serving.query import Question
from serving.recommender import Recommender
from serving.served.served_log import RANKING_SCHEMA, ServedLog
from serving.served.served_slate import ServedItems, ServedSlate
from tests.tiny_bundle import TRAINED_AT, tiny_bundle
from training.impressions import impression_rows, reactions

BUNDLE = tiny_bundle()
LATER = TRAINED_AT + 10**9
ALL = 100
SLATE = 3


def serve(root: Path, *request_ids: str) -> dict[str, tuple[list[str], Float32]]:
    """Serve slates, a second apart; the items and features of each."""
    log = ServedLog(root, 100, 1, Metrics())
    shown = {}
    with log.running():
        for second, request_id in enumerate(request_ids):
            events = [WindowEvent(TRAINED_AT, "e", "click", "kettle")]
            question = Question(events=events, shopper_key="v:vera", as_of=TRAINED_AT + 1, k=SLATE)
            [slate] = Recommender(BUNDLE, 10).recommend([question.encode(BUNDLE)])
            items = ServedItems.shown(slate, BUNDLE)
            shown[request_id] = items.item_ids.tolist(), items.features
            log.put(
                ServedSlate(
                    request_id=request_id,
                    user_id=None,
                    visitor_id="vera",
                    placement=None,
                    model_version="v1",
                    bundle="v1",
                    question=replace(question, as_of=TRAINED_AT + second * 10**6),
                    candidates=10,
                    catalog_state=None,
                    activity_state=None,
                    degraded=[],
                    ranked_by=Rung.RANKERS,
                    items=items,
                )
            )
    return shown


def reacted(*events: tuple[str, str, str]) -> pa.Table:
    """Events of (request_id, item_id, event_type)."""
    return to_table(
        LoggedEvent(
            event_id=f"r{number}",
            event_type=kind,
            visitor_id="vera",
            item_id=item,
            request_id=request,
            timestamp=TRAINED_AT + 10**6,
            arrival_time=TRAINED_AT + 10**6,
        )
        for number, (request, item, kind) in enumerate(events)
    )


def test_a_slate_with_a_reaction_teaches_with_the_features_it_was_served_with(tmp_path: Path) -> None:
    items, features = serve(tmp_path, "aa", "bb")["bb"]
    rows = impression_rows(tmp_path, reacted(("bb", items[1], "click")), LATER, ALL)
    assert rows.groups.tolist() == [SLATE]
    assert rows.relevance.tolist() == [0, 1, 0]
    place = RANKING_COLUMNS.index(POSITION)
    np.testing.assert_array_equal(np.delete(rows.features, place, axis=1), np.delete(features, place, axis=1))


def test_the_place_on_the_page_is_a_feature_of_what_was_shown_and_the_first_place_when_ranking(
    tmp_path: Path,
) -> None:
    items, features = serve(tmp_path, "aa")["aa"]
    rows = impression_rows(tmp_path, reacted(("aa", items[0], "click")), LATER, ALL)
    place = RANKING_COLUMNS.index(POSITION)
    assert rows.features[:, place].tolist() == [1, 2, 3]
    assert features[:, place].tolist() == [1, 1, 1]


def test_of_several_reactions_to_an_item_the_best_counts() -> None:
    worth = reactions(
        reacted(("aa", "mug", "click"), ("aa", "mug", "purchase"), ("aa", "rug", "add_to_cart"))
    )
    assert worth.to_dict() == {("aa", "mug"): 3, ("aa", "rug"): 2}


def test_impressions_and_events_of_no_request_are_no_reactions(tmp_path: Path) -> None:
    items, _ = serve(tmp_path, "aa")["aa"]
    told = reacted(("aa", items[0], "impression"), ("other", items[0], "click"))
    assert impression_rows(tmp_path, told, LATER, ALL).groups.tolist() == []


def test_only_so_many_of_the_newest_slates_before_the_moment_teach(tmp_path: Path) -> None:
    shown = serve(tmp_path, "aa", "bb", "cc")
    told = reacted(*((name, items[0], "click") for name, (items, _) in shown.items()))
    assert len(impression_rows(tmp_path, told, LATER, ALL).groups) == 3
    assert len(impression_rows(tmp_path, told, TRAINED_AT + 2 * 10**6, ALL).groups) == 2
    assert len(impression_rows(tmp_path, told, LATER, 0).groups) == 0


def test_slates_of_another_ranking_schema_are_left_out(tmp_path: Path) -> None:
    items, _ = serve(tmp_path, "aa")["aa"]
    [path] = tmp_path.glob("items/date=*/*.parquet")
    other = pq.ParquetFile(path).read().replace_schema_metadata({RANKING_SCHEMA: b"another"})
    pq.write_table(other, path)
    assert impression_rows(tmp_path, reacted(("aa", items[0], "click")), LATER, ALL).groups.tolist() == []
