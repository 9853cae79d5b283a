"""The served log: what training will read is what the shopper got."""

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.ranking_features import RANKING_COLUMNS
from feature_repo.schema import DAY
from feature_repo.session_window import WindowEvent
from feature_repo.settings import Settings
from serving.in_time.attempt import Rung
from serving.metrics import Metrics
from serving.query import Question, Slate
from serving.recommender import Recommender
from serving.served import served_log
from serving.served.question_text import from_text
from serving.served.request_id import is_among, moment_of, new_request_id
from serving.served.served_log import SERVED_ITEMS, SERVED_REQUESTS, ServedLog
from serving.served.served_slate import ServedItems, ServedSlate
from tests.conftest import wait_until
from tests.serving.conftest import Api, BreakableLog, click, item_ids, running_api
from tests.tiny_bundle import NAMES, TRAINED_AT, publish, tiny_bundle

pytestmark = pytest.mark.anyio

BUNDLE = tiny_bundle()


def rows(root: Path, table: str) -> list[dict[str, Any]]:
    """Rows of the served log, in the order they were written."""
    files = sorted(root.glob(f"{table}/date=*/*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    return [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]


def slate_after(item_id: str, k: int) -> Slate:
    events = [WindowEvent(TRAINED_AT, "e", "click", item_id)]
    question = Question(events=events, shopper_key="v:vera", as_of=TRAINED_AT + 1, k=k)
    [slate] = Recommender(BUNDLE, 200).recommend([question.encode(BUNDLE)])
    return slate


def served(request_id: str, *, as_of: int = TRAINED_AT, items: ServedItems | None = None) -> ServedSlate:
    return ServedSlate(
        request_id=request_id,
        user_id=None,
        visitor_id="vera",
        placement=None,
        model_version="v1",
        bundle="v1",
        question=Question(events=[], shopper_key="v:vera", as_of=as_of),
        candidates=200,
        catalog_state=None,
        activity_state=None,
        degraded=[],
        ranked_by=Rung.RANKERS,
        items=items or ServedItems.shown(slate_after("kettle", 2), BUNDLE),
    )


async def test_what_was_served_is_on_disk_within_the_flush_time(api: Api) -> None:
    await api.send(click("lamp", event_id="e1", user_id="ada"), click("kettle", event_id="e2"))
    reply = await api.recommend(
        visitor_id="vera", placement="home", k=3, context={"item_ids": ["desk"], "cart": ["chair"]}
    )
    root = api.service.settings.served_dir
    wait_until(lambda: rows(root, "requests"))
    [request] = rows(root, "requests")
    assert request["request_id"] == reply["request_id"]
    assert (request["user_id"], request["visitor_id"], request["placement"]) == ("ada", "vera", "home")
    question = from_text(request["question"])
    assert (question.context_items, question.cart) == (["desk"], ["chair"])
    assert [(event.event_id, event.item_id) for event in question.events] == [
        ("e1", "lamp"),
        ("e2", "kettle"),
    ]
    for row, item in zip(rows(root, "items"), reply["items"], strict=True):
        assert {key: row[key] for key in ("item_id", "position", "sources")} == {
            key: item[key] for key in ("item_id", "position", "sources")
        }
        assert row["score"] == pytest.approx(item["score"], rel=1e-6)
        shared = ("request_id", "as_of", "user_id", "visitor_id", "placement", "model_version")
        assert [row[key] for key in shared] == [request[key] for key in shared]


async def test_the_question_as_logged_gives_the_features_as_logged(api: Api) -> None:
    now = time.time_ns() // 1000
    await api.send(
        click("lamp", timestamp=now - 90_000_000),
        click("kettle", timestamp=now - 60_000_000),
        {"event_type": "search", "visitor_id": "vera", "query": "tea"},
    )
    await api.recommend(visitor_id="vera", k=5, context={"cart": ["desk"]})
    root = api.service.settings.served_dir
    wait_until(lambda: rows(root, "requests"))
    [request] = rows(root, "requests")
    question = from_text(request["question"])
    assert question.as_of == int(request["as_of"].timestamp() * 1_000_000 + 0.5)
    [slate] = Recommender(BUNDLE, request["candidates"]).recommend([question.encode(BUNDLE)])
    replayed = ServedItems.shown(slate, BUNDLE)
    logged = rows(root, "items")
    assert [row["item_id"] for row in logged] == list(replayed.item_ids)
    np.testing.assert_allclose([row["features"] for row in logged], replayed.features, rtol=1e-6)


async def test_for_a_share_of_requests_every_candidate_is_logged(
    api_settings: Settings, shop_log: BreakableLog
) -> None:
    full = api_settings.model_copy(update={"served_log_full_share": 1.0})
    publish(full.models_dir, BUNDLE)
    async with running_api(full, shop_log) as api:
        reply = await api.recommend(k=2)
    logged = rows(full.served_dir, "items")
    assert [row["item_id"] for row in logged[:2]] == item_ids(reply)
    assert {row["item_id"] for row in logged} == set(NAMES) - {"rug"}
    assert [(row["position"], row["score"] is None) for row in logged[:2]] == [(1, False), (2, False)]
    assert {(row["position"], row["score"]) for row in logged[2:]} == {(None, None)}
    popular = RANKING_COLUMNS.index("popular_rank")
    assert [row["features"][popular] for row in logged] == [NAMES.index(row["item_id"]) for row in logged]


async def test_what_waits_at_shutdown_is_written(api_settings: Settings, shop_log: BreakableLog) -> None:
    slow = api_settings.model_copy(update={"served_log_flush_seconds": 3600.0})
    publish(slow.models_dir, BUNDLE)
    async with running_api(slow, shop_log) as api:
        told = [(await api.recommend())["request_id"] for _ in range(3)]
    assert [row["request_id"] for row in rows(slow.served_dir, "requests")] == told


@pytest.mark.parametrize("share", [0.0, 0.01, 0.25, 1.0])
def test_the_share_of_random_ids_is_the_share_asked_for(share: float) -> None:
    ids = [new_request_id(TRAINED_AT) for _ in range(20_000)]
    assert sum(is_among(share, name) for name in ids) == pytest.approx(
        share * len(ids), abs=400 * (share % 1 > 0)
    )


def test_an_id_tells_the_moment_of_its_request() -> None:
    assert moment_of(new_request_id(TRAINED_AT + 7)) == TRAINED_AT + 7
    assert len({new_request_id(TRAINED_AT) for _ in range(1000)}) == 1000
    for text in ("", "g" * 32, "0" * 31, "0" * 33, "A" * 32):
        assert moment_of(text) is None


def test_an_item_filled_in_from_popularity_has_no_features_and_no_sources() -> None:
    ranked = slate_after("kettle", 2)
    rug = NAMES.index("rug")
    slate = replace(
        ranked,
        items=np.append(ranked.items, np.int32(rug)),
        scores=np.append(ranked.scores, np.float32(-1)),
        filled=1,
        propensity=np.append(ranked.propensity, 1.0),
        placed_by=(*ranked.placed_by, None),
    )
    table = served_log.items_table([served("r", items=ServedItems.shown(slate, BUNDLE))]).to_pylist()
    assert [row["item_id"] for row in table] == ["teapot", "mug", "rug"]
    assert (table[2]["sources"], table[2]["features"], table[2]["score"]) == ([], None, -1.0)
    assert table[0]["features"] is not None


def test_features_stand_beside_their_item() -> None:
    slate = slate_after("kettle", 9)
    shown = ServedItems.shown(slate, BUNDLE)
    everything = shown.with_others(slate_after("kettle", 3), BUNDLE)
    by_item = dict(zip(slate.candidates.items.tolist(), slate.features, strict=True))
    for item_id, features in zip(shown.item_ids, shown.features, strict=True):
        np.testing.assert_array_equal(features, by_item[NAMES.index(item_id)])
    assert everything.features.shape[0] == everything.item_ids.size


@pytest.mark.parametrize("sizes", [[0], [0, 0], [2, 0, 9], [9]])
def test_slates_of_any_length_become_rows_of_the_schema(sizes: Sequence[int]) -> None:
    batch = [
        served(str(n), items=ServedItems.shown(slate_after("lamp", size), BUNDLE))
        for n, size in enumerate(sizes)
    ]
    items, requests = served_log.items_table(batch), served_log.requests_table(batch)
    assert items.schema == SERVED_ITEMS
    assert requests.schema == SERVED_REQUESTS
    expected = [(str(n), row + 1) for n, size in enumerate(sizes) for row in range(min(size, 8))]
    assert [(row["request_id"], row["position"]) for row in items.to_pylist()] == expected


def test_files_lie_in_the_folder_of_their_date(tmp_path: Path) -> None:
    log = ServedLog(tmp_path, 10, 3600, Metrics())
    with log.running():
        log.put(served("a"))
        log.put(served("b", as_of=TRAINED_AT + DAY))
        log.put(served("c"))
    found = {
        path.parent.name: pq.ParquetFile(path).read()["request_id"].to_pylist()
        for path in tmp_path.glob("requests/*/*.parquet")
    }
    assert found == {"date=2025-06-15": ["a", "c"], "date=2025-06-16": ["b"]}


def test_what_finds_no_room_is_dropped_and_counted(tmp_path: Path) -> None:
    metrics = Metrics()
    log = ServedLog(tmp_path, 2, 3600, metrics)
    for name in "abcde":
        log.put(served(name))
    text = metrics.render().decode()
    assert "freshet_served_log_dropped_total 3.0" in text
    assert "freshet_served_log_queue 2.0" in text
    with log.running():
        pass
    assert [row["request_id"] for row in rows(tmp_path, "requests")] == ["a", "b"]


def test_a_full_disk_costs_the_slates_it_refused_and_no_later_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = threading.Event()

    def refuse(path: Path, content: pa.Buffer) -> None:
        refused.set()
        raise OSError(28, "No space left on device")

    metrics = Metrics()
    log = ServedLog(tmp_path, 10, 0.01, metrics)
    with log.running():
        with monkeypatch.context() as patch:
            patch.setattr(served_log, "replace_file", refuse)
            log.put(served("lost"))
            wait_until(lambda: b"dropped_total 1.0" in metrics.render())
        log.put(served("kept"))
    assert refused.is_set()
    assert [row["request_id"] for row in rows(tmp_path, "requests")] == ["kept"]
