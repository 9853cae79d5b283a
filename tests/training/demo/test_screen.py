"""What a person reads who has no terminal, and what is told of assets."""

import time
from io import StringIO

import pytest
from rich.console import Console

from training.demo.airflow_api import AssetEvent
from training.demo.demo import show_asset_events
from training.demo.screen import Screen


@pytest.fixture
def shown() -> StringIO:
    return StringIO()


@pytest.fixture
def screen(shown: StringIO) -> Screen:
    return Screen(Console(file=shown, width=120))


def test_without_a_terminal_a_line_says_now_and_then_what_is_waited_for(
    screen: Screen, shown: StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter([0.0, 10.0, 31.0, 40.0, 62.0, 70.0])
    with monkeypatch.context() as known:
        known.setattr(time, "monotonic", lambda: next(moments))
        with screen.step("processes start") as show:
            for missing in ("redis", "api", "api", "triggerer"):
                show(f"waiting for {missing}")
    assert shown.getvalue().splitlines() == [
        "  processes start ...",
        "  processes start: waiting for api (31 s)",
        "  processes start: waiting for triggerer (62 s)",
        "✓ processes start  70.0 s",
    ]


def test_assets_are_told_without_what_is_empty_and_with_each_score_once(
    screen: Screen, shown: StringIO
) -> None:
    outcome = {"version": "v7", "NDCG@10 ranker": "0.31", "gate": "passed"}
    show_asset_events(
        [
            AssetEvent("features", {"rows": 0, "as_of": "2026-02-03T04:05:06.789012+00:00"}, ()),
            AssetEvent("evaluation", outcome, ()),
            AssetEvent("model", {**outcome, "forced_because": None, "advice": ""}, ()),
        ],
        screen,
    )
    assert shown.getvalue().splitlines() == [
        "features",
        "    rows   0",
        "    as_of  2026-02-03T04:05:06+00:00",
        "evaluation",
        "    version         v7",
        "    NDCG@10 ranker  0.31",
        "    gate            passed",
        "model",
        "    version  v7",
        "    gate     passed",
    ]
