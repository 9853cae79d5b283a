"""A report says the same to programs, to people and to the eye."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import orjson

from feature_repo.arrays import Int32
from feature_repo.settings import Settings
from serving.reranking import DiversityKind
from tests.training.tiny_log import Happened, at, encoded
from training.evaluation.ablations import FRESHET
from training.evaluation.between_trainings import REFRESHED, STATIC, BetweenTrainings
from training.evaluation.cold_start import (
    NEW,
    ColdStart,
    item_groups,
    scores_by_group,
    shopper_groups,
)
from training.evaluation.complements import COMPLEMENTS, COUNTS, Complements
from training.evaluation.diversity import DIALS, DialPoint, Similarity
from training.evaluation.metrics import CUTOFF, NO_ITEM
from training.evaluation.next_item import next_item
from training.evaluation.report import Conditions, Report, ShownHalf
from training.evaluation.report_files import FRONTIER, JSON, MARKDOWN, PLOT, write_report
from training.evaluation.report_page import to_markdown
from training.evaluation.results import Catalogue, compare, measure, quality_of
from training.evaluation.sources import SourceReport
from training.evaluation.tuning import BestTrial
from training.replay import Replay

CONDITIONS = Conditions(
    protocol="next_item",
    command="freshet evaluate",
    began="2026-01-01T00:00:00+00:00",
    seconds=1.0,
    log_from="2025-01-01T00:00:00+00:00",
    tuned_from="2025-10-01T00:00:00+00:00",
    ranker_from="2025-10-01T00:00:00+00:00",
    test_from="2025-11-01T00:00:00+00:00",
    end="2026-01-01T00:00:00+00:00",
    events=1234,
    shoppers=50,
    items=4,
    requests=3,
    drawn_from=3,
    targets=4,
    ceiling=0.75,
    tuned_by="ndcg_at_10",
    tuning_requests=100,
    trials=20,
    candidates=200,
    git_revision="unknown",
    versions={"numpy": "2"},
    cores=2,
    machine="here",
)
CATALOGUE = Catalogue(4, np.eye(4, dtype=np.float32), np.array([6, 5, 1, 0]))
BASELINE = "popularity"


def asked() -> Replay:
    """Two requests of ann, who wants a and then b; a, b, c and d are the items."""
    log = encoded([Happened("ann", item, minute) for minute, item in enumerate("abcab")], items="d")
    return next_item(log, at(3), at(10), Settings()).replay


def slates(*answers: str) -> Int32:
    """A slate for each request, an item a letter."""
    table = np.full((len(answers), CUTOFF), NO_ITEM, np.int32)
    for row, answer in enumerate(answers):
        table[row, : len(answer)] = ["abcd".index(item) for item in answer]
    return table


def report() -> Report:
    """Freshet places what is wanted first, the baseline second and nowhere."""
    requests, answers = asked(), {FRESHET: slates("ab", "bc"), BASELINE: slates("ba", "cd")}
    results = {name: measure(found, requests, CATALOGUE) for name, found in answers.items()}
    quality = {name: quality_of(found, requests) for name, found in answers.items()}
    against = {BASELINE: compare(quality[FRESHET], quality[BASELINE], requests.shopper)}
    losses = {"without revisits": compare(quality[BASELINE], quality[FRESHET], requests.shopper)}
    scores = {name: result.scores for name, result in results.items()}
    alike = Similarity(of_first=0.5, of_all=0.25)
    return Report(
        conditions=CONDITIONS,
        methods=results,
        against=against,
        tuned={BASELINE: BestTrial({"half_life": 14.0}, 0.5)},
        ablations={"without revisits": results[BASELINE]},
        losses=losses,
        sources={"revisits": SourceReport(quota=64, recall=0.5, alone=0.25, milliseconds=0.1)},
        fused_recall={100: 0.75},
        frontier={
            kind: [
                DialPoint(dial, 0.5, 0.4 - dial / 10, alike, alike, against[BASELINE].ndcg_at_10)
                for dial in DIALS
            ]
            for kind in DiversityKind
        },
        cold_start=ColdStart({NEW: scores, "3+": scores}, {"1-5": scores}, 0.25, scores[BASELINE]),
        shown_half=ShownHalf(results, {FRESHET: against[BASELINE]}),
        complements=Complements(
            {COMPLEMENTS: scores[FRESHET], COUNTS: scores[BASELINE]}, {COUNTS: against[BASELINE]}
        ),
        between_trainings=BetweenTrainings(
            {STATIC: scores[BASELINE], REFRESHED: scores[FRESHET]}, against[BASELINE], 0.125, refreshes=23
        ),
    )


def test_what_is_written_is_whole_and_says_the_same(tmp_path: Path) -> None:
    write_report(report(), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {JSON, MARKDOWN, PLOT, FRONTIER}
    found = orjson.loads((tmp_path / JSON).read_bytes())
    assert found["conditions"] == asdict(CONDITIONS)
    assert found["methods"][FRESHET]["scores"]["ndcg_at_10"] == {"mean": 1.0, "lower": 1.0, "upper": 1.0}
    assert found["methods"][BASELINE]["scores"]["mrr_at_20"]["mean"] == 0.25
    assert found["against"][BASELINE]["recall_at_20"]["relative"]["mean"] == 1.0
    assert found["fused_recall"] == {"100": 0.75}
    assert (tmp_path / MARKDOWN).read_text() == to_markdown(report(), PLOT, FRONTIER)
    assert found["frontier"]["mmr"][5]["content"] == {"of_first": 0.5, "of_all": 0.25}
    for plot in (PLOT, FRONTIER):
        assert (tmp_path / plot).read_bytes().startswith(b"\x89PNG")


def test_a_page_has_every_table_and_every_row_all_its_cells() -> None:
    page = to_markdown(report(), PLOT, FRONTIER)
    for name in (
        FRESHET,
        BASELINE,
        "without revisits",
        "revisits",
        "half_life 14",
        "25.0% of all targets",
        STATIC,
        "anew 23 times",
        "12.5% had",
        "What complements gains",
        "DPP | 0.5",
    ):
        assert name in page
    for block in page.split("\n\n"):
        rows = [line for line in block.splitlines() if line.startswith("| ")]
        assert len({row.count("|") for row in rows}) <= 1


def test_what_a_protocol_does_not_ask_has_no_section() -> None:
    page = to_markdown(
        replace(report(), cold_start=None, shown_half=None, complements=None, between_trainings=None),
        PLOT,
        FRONTIER,
    )
    assert "Cold start" not in page
    assert "half of the basket" not in page
    assert "goes with an item" not in page
    assert "Between trainings" not in page


def test_the_summary_names_the_best_baseline_and_the_ceiling() -> None:
    text = replace(report(), shown_half=None, complements=None, between_trainings=None).summary()
    *_, ceiling, difference = text.splitlines()
    assert ceiling == "75.0% of 4 targets were known before 2025-11-01T00:00:00+00:00"
    assert difference.startswith("Freshet against popularity, NDCG@10: +")


def test_the_summary_of_basket_completion_says_what_the_shown_half_was_worth() -> None:
    assert "with half of the basket against history alone" in report().summary().splitlines()[-3]


def test_the_summary_says_what_complements_gains() -> None:
    line = report().summary().splitlines()[-2]
    assert line.startswith("complements on the page of an item against co-purchase counts, NDCG@10: +")


def test_the_summary_says_what_refreshing_was_worth() -> None:
    line = report().summary().splitlines()[-1]
    assert line.startswith("Freshet refreshed every hour against as trained, on the next day, NDCG@10: +")


def test_requests_are_grouped_by_what_was_known_of_shopper_and_item() -> None:
    log = encoded([Happened("ann", item, minute) for minute, item in enumerate("abab")])
    requests = next_item(log, at(1), at(10), Settings()).replay.take(np.array([0]))
    assert requests.wanted.tolist() == [0]
    assert {name: rows.tolist() for name, rows in shopper_groups(requests).items()} == {
        "1": [False],
        "2": [True],
        "3+": [False],
    }
    groups = item_groups(requests, np.array([6, 1]))
    assert {name: rows.tolist() for name, rows in groups.items()} == {"1-5": [False], "6+": [True]}
    quality = {FRESHET: quality_of(slates("a"), requests)}
    scores = scores_by_group(quality, requests.shopper, groups)
    assert scores["6+"][FRESHET].mrr_at_20.mean == 1
    assert scores["1-5"][FRESHET].requests == 0
