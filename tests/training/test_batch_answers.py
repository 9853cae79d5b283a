"""Batch answers: a file of windows in, a file of slates out, as the API would answer."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from feature_repo.errors import InputError
from feature_repo.schema import SECOND, Event, EventType
from feature_repo.session_window import WindowEvent
from serving.query import Question
from serving.recommender import Recommender
from tests.tiny_bundle import KNOWN_SHOPPER, NAMES, TRAINED_AT, tiny_bundle
from tests.training.conftest import TrainedShop
from training.batch_answers import ANSWER_SCHEMA, answer, read_requests, require_place, write_answers

K = 4


def row(request: str | None, item: str | None, second: int = 0, **columns: Any) -> dict[str, Any]:
    """An event ``second`` seconds after the training."""
    return {
        Event.REQUEST: request,
        Event.ITEM: item,
        Event.TIMESTAMP: TRAINED_AT + second * SECOND,
        **columns,
    }


WINDOWS = [
    row("r2", "mug", 0, event_type="view", user_id="ada"),
    row("r1", "lamp", 5, event_type="add_to_cart", user_id=None),
    row("r2", "kettle", 9, event_type="click", user_id="ada"),
    row("r1", "mug", 1, event_type="view", user_id=None),
    row("r1", None, 7, event_type="search", user_id=None),
]


def csv_of(folder: Path, rows: list[dict[str, Any]], name: str = "windows.csv") -> Path:
    pa_csv.write_csv(pa.Table.from_pylist(rows), folder / name)
    return folder / name


def answers(path: Path, *, k: int = K, window_size: int = 64, repeat_last: bool = False) -> pa.Table:
    recommender = Recommender(tiny_bundle(), candidates=10)
    return answer(recommender, read_requests(path, k=k, window_size=window_size, repeat_last=repeat_last))


def slates(path: Path, **options: Any) -> dict[str, list[str]]:
    """The items of each request, in the order of the answers."""
    found: dict[str, list[str]] = {}
    for line in answers(path, **options).to_pylist():
        found.setdefault(line[Event.REQUEST], []).append(line[Event.ITEM])
    return found


def test_there_is_one_slate_per_request_in_order_of_first_appearance(tmp_path: Path) -> None:
    found = answers(csv_of(tmp_path, WINDOWS))
    assert found.schema == ANSWER_SCHEMA
    assert found[Event.REQUEST].to_pylist() == ["r2"] * K + ["r1"] * K
    assert found["position"].to_pylist() == [1, 2, 3, 4] * 2
    for start in (0, K):
        assert np.unique(found[Event.ITEM].to_pylist()[start : start + K]).size == K
        assert (np.diff(found["score"].to_numpy()[start : start + K]) <= 0).all()


def test_slates_are_the_known_ones(tmp_path: Path) -> None:
    # Neighbours of the newest item, then what is popular; the newest item itself is left out.
    assert slates(csv_of(tmp_path, WINDOWS)) == {
        "r2": ["teapot", "mug", "lamp", "desk"],
        "r1": ["bulb", "shade", "mug", "kettle"],
    }


def test_the_newest_item_may_come_again_when_asked_for(tmp_path: Path) -> None:
    path = csv_of(tmp_path, WINDOWS)
    assert "kettle" not in slates(path, k=9)["r2"]
    assert slates(path, repeat_last=True)["r2"] == ["teapot", "mug", "kettle", "lamp"]


def test_csv_and_parquet_give_the_same(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(WINDOWS)
    moments = table[Event.TIMESTAMP].cast(pa.timestamp("us", "UTC"))
    pq.write_table(table.set_column(2, Event.TIMESTAMP, moments), tmp_path / "windows.parquet")
    assert answers(tmp_path / "windows.parquet").equals(answers(csv_of(tmp_path, WINDOWS)))


def test_rows_in_any_order_give_the_same(tmp_path: Path) -> None:
    expected = slates(csv_of(tmp_path, WINDOWS))
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(WINDOWS))
        assert slates(csv_of(tmp_path, [WINDOWS[n] for n in order])) == expected


def test_events_of_one_moment_are_ordered_by_their_id(tmp_path: Path) -> None:
    rows = [row("r", "kettle", event_id="b"), row("r", "lamp", event_id="a")]
    assert slates(csv_of(tmp_path, rows))["r"][0] == "teapot"
    assert slates(csv_of(tmp_path, rows[::-1]))["r"][0] == "teapot"


def test_the_file_needs_no_more_than_request_item_and_time(tmp_path: Path) -> None:
    rows = [row("r2", "mug"), row("r2", "kettle", 9)]
    assert slates(csv_of(tmp_path, rows)) == {"r2": ["teapot", "mug", "lamp", "desk"]}


@pytest.mark.parametrize("window_size", [1, 3])
def test_only_the_newest_events_without_impressions_are_the_window(tmp_path: Path, window_size: int) -> None:
    rows = [row("r", name, second, event_type="view") for second, name in enumerate(NAMES)]
    rows += [row("r", "mug", 50 + n, event_type="impression") for n in range(5)]
    [request] = read_requests(csv_of(tmp_path, rows), k=K, window_size=window_size, repeat_last=False)
    assert [event.item_id for event in request.question.events] == list(NAMES[-window_size:])


def test_a_request_is_asked_at_its_newest_event_for_the_shopper_it_names(tmp_path: Path) -> None:
    rows = [
        row("known", "mug", 0, user_id=None, visitor_id="x"),
        row("known", "lamp", 3, user_id="ada", visitor_id="x"),
        row("visitor", "lamp", 2, user_id=None, visitor_id="y"),
        row("nobody", "lamp", 1, user_id=None, visitor_id=None),
    ]
    found = read_requests(csv_of(tmp_path, rows), k=K, window_size=64, repeat_last=False)
    asked = {request.request_id: (request.question.shopper_key, request.question.as_of) for request in found}
    assert asked == {
        "known": (KNOWN_SHOPPER, TRAINED_AT + 3 * SECOND),
        "visitor": ("v:y", TRAINED_AT + 2 * SECOND),
        "nobody": (None, TRAINED_AT + SECOND),
    }


def test_a_window_of_items_that_nobody_knows_gets_a_full_slate(tmp_path: Path) -> None:
    rows = [row("unknown", "who knows"), row("itemless", None, event_type="search"), row("mixed", "mug")]
    found = slates(csv_of(tmp_path, [*rows, row("mixed", "who knows", 1)]), k=5)
    assert found["unknown"] == found["itemless"] == ["mug", "kettle", "lamp", "desk", "teapot"]
    assert len(found["mixed"]) == 5


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"request_id": "r", "item_id": "mug"}], "has no column timestamp, only request_id, item_id"),
        ([row("r", "mug"), row(None, "mug")], "row 2 has no usable request_id"),
        ([row("r", "mug"), row("r", "mug") | {Event.TIMESTAMP: None}], "row 2 has no usable timestamp"),
        ([row("r", "mug") | {Event.TIMESTAMP: "soon"}], "row 1 has no usable timestamp"),
        ([row("r", "mug", event_type="stare")], "row 1 has no usable event_type"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(
    tmp_path: Path, rows: list[dict[str, Any]], message: str
) -> None:
    path = csv_of(tmp_path, rows)
    with pytest.raises(InputError, match=message) as caught:
        read_requests(path, k=K, window_size=64, repeat_last=False)
    assert str(path) in str(caught.value)


def test_slates_are_written_as_they_are(tmp_path: Path) -> None:
    found = answers(csv_of(tmp_path, WINDOWS))
    write_answers(found, tmp_path / "slates.parquet")
    assert pq.read_table(tmp_path / "slates.parquet").equals(found)


def test_a_place_where_no_file_can_be_written_is_named(tmp_path: Path) -> None:
    require_place(tmp_path / "slates.parquet")
    with pytest.raises(InputError, match="nowhere is not a folder"):
        require_place(tmp_path / "nowhere" / "slates.parquet")
    with pytest.raises(InputError, match=f"{tmp_path} is a folder"):
        require_place(tmp_path)


@pytest.fixture(scope="module")
def recommender(trained: TrainedShop) -> Recommender:
    from serving.live_version import read_live_bundle

    return Recommender(read_live_bundle(trained.settings.models_dir), trained.settings.candidates)


def windows_file(simulated: Path, folder: Path, requests: int) -> Path:
    """The newest 15 events of so many shoppers, or parts of them, as windows."""
    events = pq.read_table(simulated / "events.parquet").to_pandas()
    events = events[events[Event.TYPE] != EventType.IMPRESSION]
    key = events[Event.USER].fillna(events[Event.VISITOR])
    newest = events.groupby(key).tail(15)
    shoppers = key[newest.index].unique()
    names = {
        shopper: [f"{shopper}-{n}" for n in range(-(-requests // len(shoppers)))] for shopper in shoppers
    }
    newest = newest.assign(request_id=key[newest.index].map(names)).explode(Event.REQUEST)
    newest = newest[newest[Event.REQUEST].isin(newest[Event.REQUEST].unique()[:requests])]
    columns = [Event.REQUEST, Event.ITEM, Event.TIMESTAMP, Event.TYPE, Event.USER, Event.VISITOR, Event.ID]
    newest[columns].to_parquet(folder / "windows.parquet")
    return folder / "windows.parquet"


@pytest.mark.slow
def test_a_batch_is_answered_like_one_by_one(
    recommender: Recommender, simulated: Path, tmp_path: Path
) -> None:
    path = windows_file(simulated, tmp_path, 300)
    requests = read_requests(path, k=20, window_size=64, repeat_last=False)
    assert len(requests) == 300
    together = answer(recommender, requests)
    assert together.equals(pa.concat_tables([answer(recommender, [request]) for request in requests]))
    assert together.num_rows == 300 * 20


@pytest.mark.slow
def test_a_batch_is_answered_like_the_same_question_online(
    recommender: Recommender, simulated: Path, tmp_path: Path
) -> None:
    path = windows_file(simulated, tmp_path, 50)
    raw = pq.read_table(path).to_pandas()
    requests = read_requests(path, k=20, window_size=64, repeat_last=False)
    found = answer(recommender, requests).to_pandas().groupby(Event.REQUEST)[Event.ITEM].agg(list)
    for request_id, group in raw.groupby(Event.REQUEST):
        rows = group.sort_values([Event.TIMESTAMP, Event.ID]).astype(object)
        rows = rows.where(rows.notna(), None)
        events = [
            WindowEvent(int(r.timestamp.value // 1000), r.event_id, r.event_type, r.item_id)
            for r in rows.itertuples()
        ]
        last = rows.iloc[-1]
        key = f"u:{last[Event.USER]}" if last[Event.USER] else f"v:{last[Event.VISITOR]}"
        question = Question(events=events, shopper_key=key, as_of=events[-1].timestamp)
        [slate] = recommender.recommend([question.encode(recommender.bundle)])
        assert recommender.bundle.item_ids[slate.items].tolist() == found[request_id]


@pytest.mark.slow
def test_two_thousand_windows_take_seconds(recommender: Recommender, simulated: Path, tmp_path: Path) -> None:
    path = windows_file(simulated, tmp_path, 2000)
    started = time.perf_counter()
    requests = read_requests(path, k=20, window_size=64, repeat_last=False)
    found = answer(recommender, requests)
    took = time.perf_counter() - started
    assert found.num_rows == 2000 * 20
    assert took < 60, f"{2000 / took:.0f} windows/s"  # several hundred a second on one core of 2025


def test_times_that_look_like_seconds_are_answered_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [row("r", "mug", event_type="view") | {"timestamp": 1_750_000_000}]
    [request] = read_requests(csv_of(tmp_path, rows), k=K, window_size=64, repeat_last=False)
    assert [event.item_id for event in request.question.events] == ["mug"]
    assert "row 1 lies before the year 2000" in caplog.text
