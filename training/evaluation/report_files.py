"""The files of a report: for programs (JSON), for people (Markdown) and for the eye (PNG)."""

import io
from dataclasses import asdict
from pathlib import Path
from typing import Final

import orjson
from matplotlib.figure import Figure

from feature_repo.durable_file import replace_file
from training.evaluation.ablations import FRESHET
from training.evaluation.diversity import Frontier
from training.evaluation.metrics import Interval
from training.evaluation.report import METRICS, Report
from training.evaluation.report_page import to_markdown

JSON: Final = "report.json"
MARKDOWN: Final = "report.md"
PLOT: Final = "quality.png"
FRONTIER: Final = "diversity.png"


def write_report(report: Report, folder: Path) -> None:
    """Write JSON, Markdown and plots into a folder; each file appears whole."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE
    replace_file(folder / PLOT, quality_plot(report))
    replace_file(folder / FRONTIER, frontier_plot(report.frontier))
    replace_file(folder / MARKDOWN, to_markdown(report, PLOT, FRONTIER).encode())
    replace_file(folder / JSON, orjson.dumps(asdict(report), option=options))


def quality_plot(report: Report) -> bytes:
    """PNG: NDCG@10 and Recall@20 of Freshet and the baselines, with their intervals."""
    figure = Figure(figsize=(10, 0.5 * len(report.methods) + 1), layout="constrained")
    shared = figure.subplots(ncols=2, sharey=True)
    names = list(report.methods)[::-1]
    for axes, metric in zip(shared, ("ndcg_at_10", "recall_at_20"), strict=True):
        intervals: list[Interval] = [getattr(report.methods[name].scores, metric) for name in names]
        means = [interval.mean for interval in intervals]
        errors = [[one.mean - one.lower for one in intervals], [one.upper - one.mean for one in intervals]]
        colors = ["tab:orange" if name == FRESHET else "tab:blue" for name in names]
        axes.barh(names, means, xerr=errors, color=colors)
        axes.set_title(METRICS[metric])
        axes.grid(axis="x", alpha=0.3)
    return _png(figure)


def frontier_plot(frontier: Frontier) -> bytes:
    """PNG: NDCG@10 against both similarities of a slate's items, along the dial, for each kind of diversity."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    figure.suptitle("Along the dial of diversity")
    shared = figure.subplots(ncols=2, sharey=True)
    for axes, by in zip(shared, ("content", "learned"), strict=True):
        for kind, points in frontier.items():
            similarity = [getattr(point, by).of_all for point in points]
            ndcg = [point.ndcg_at_10 for point in points]
            axes.plot(similarity, ndcg, marker="o", label=kind.upper())
            for place in range(0, len(points), 5):
                axes.annotate(f"{points[place].dial:.1f}", (similarity[place], ndcg[place]))
        axes.invert_xaxis()
        axes.grid(alpha=0.3)
    content, learned = shared
    content.set(xlabel="similarity of a slate's items: what the catalog says", ylabel="NDCG@10")
    learned.set(xlabel="similarity of a slate's items: who wants them")
    content.legend()
    return _png(figure)


def _png(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    return content.getvalue()
