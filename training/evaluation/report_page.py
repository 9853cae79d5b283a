"""The report of an evaluation as a page of Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from training.evaluation.ablations import FRESHET
from training.evaluation.complements import COMPLEMENTS, ITEM
from training.evaluation.metrics import CUTOFF, NDCG_CUTOFF, Scores
from training.evaluation.report import METRICS, Report
from training.evaluation.results import Comparison, Result


def to_markdown(report: Report, quality: str, frontier: str) -> str:
    """The page; names of two pictures beside it, of the quality of the methods and the frontier of diversity."""
    sections = [
        f"# Evaluation: {report.conditions.protocol}",
        f"![NDCG@10 and Recall@20 by method]({quality})",
        *_methods(report),
        *_shown_half(report),
        *_complements(report),
        *_ablations(report),
        *_sources(report),
        *_diversity(report, frontier),
        *_cold_start(report),
        *_between_trainings(report),
        *_tuned(report),
        *_conditions(report),
    ]
    return "\n\n".join(sections) + "\n"


def _methods(report: Report) -> list[str]:
    return [
        "## Methods",
        f"{report.conditions.requests:,} requests; means with 95% bootstrap intervals over shoppers. "
        f"{report.conditions.ceiling:.1%} of the targets were known before the test part, the others are left out.",
        _results(report.methods),
        f"## {FRESHET} against each baseline",
        f"{FRESHET} minus baseline on the same requests, relative to the baseline; paired bootstrap by shopper.",
        _table(
            ["baseline", *METRICS.values()],
            ([name, *_by_metric(found)] for name, found in report.against.items()),
        ),
    ]


def _shown_half(report: Report) -> list[str]:
    if report.shown_half is None:
        return []
    gains = report.shown_half.gain.items()
    return [
        "## What half of the basket tells",
        "Asked with the history and the shown half of the basket, against the history alone; paired.",
        _table(
            ["method", *METRICS.values()],
            ([name, *_by_metric(gain)] for name, gain in gains),
        ),
        "From the history alone:",
        _results(report.shown_half.from_history),
    ]


def _complements(report: Report) -> list[str]:
    found = report.complements
    if found is None:
        return []
    return [
        "## What goes with an item",
        f"A random item of each basket is on the page; the others are wanted. The placements {COMPLEMENTS} and "
        f"{ITEM}, and the items that were bought most often in one visit with it.",
        _table(
            ["method", *METRICS.values()],
            ([name, *_by_metric(scores)] for name, scores in found.scores.items()),
        ),
        f"What {COMPLEMENTS} gains, paired:",
        _table(
            ["against", *METRICS.values()], ([name, *_by_metric(gain)] for name, gain in found.gain.items())
        ),
    ]


def _ablations(report: Report) -> list[str]:
    rows = (
        [name, *_by_metric(result.scores), str(getattr(report.losses[name], report.conditions.tuned_by))]
        for name, result in report.ablations.items()
    )
    return [
        "## Ablations",
        f"{FRESHET} without a part. The rankers stay as they were trained, with all parts in place; without the "
        "session encoder, or a source, its columns are missing values. Without the rankers the order of the fused "
        f"candidates stands. The last column compares with the whole, by {METRICS[report.conditions.tuned_by]}.",
        _table(["ablation", *METRICS.values(), "against the whole"], rows),
    ]


def _sources(report: Report) -> list[str]:
    rows = (
        [name, str(source.quota), f"{source.recall:.4f}", f"{source.alone:.4f}", f"{source.milliseconds:.2f}"]
        for name, source in report.sources.items()
    )
    fused = ([str(size), f"{recall:.4f}"] for size, recall in report.fused_recall.items())
    return [
        "## Sources of candidates",
        "Recall: share of the known targets within the source's quota. Alone: share of the targets found by any "
        "source that no other found.",
        _table(["source", "quota", "recall", "alone", "ms per request"], rows),
        f"After fusion; the rankers get {report.conditions.candidates}:",
        _table(["candidates", "recall"], fused),
    ]


def _diversity(report: Report, plot: str) -> list[str]:
    rows = (
        [
            kind.upper(),
            f"{point.dial:.1f}",
            f"{point.ndcg_at_10:.4f}",
            str(point.cost.relative),
            f"{point.recall_at_20:.4f}",
            *(f"{alike.of_first:.3f}, {alike.of_all:.3f}" for alike in (point.content, point.learned)),
        ]
        for kind, points in report.frontier.items()
        for point in points
    )
    return [
        "## Diversity",
        f"Slates along the dial. Similarity: mean cosine of two items of the first {NDCG_CUTOFF}, and of all "
        f"{CUTOFF}, by what the catalog says of them, and by {FRESHET}'s embeddings, which say who wants them. The "
        "cost is relative to the NDCG@10 at dial 0 of the same requests; paired bootstrap by shopper.",
        f"![Similarity and NDCG@10 along the dial]({plot})",
        _table(
            ["kind", "dial", "NDCG@10", "cost", "Recall@20", "similarity in content", "in who wants them"],
            rows,
        ),
    ]


def _cold_start(report: Report) -> list[str]:
    found = report.cold_start
    if found is None:
        return []
    return [
        "## Cold start: the shopper",
        "By how many interactions the shopper had had. Those with 0 count in no other table.",
        *_groups(found.by_shopper),
        "## Cold start: the item",
        "By how many interactions the wanted item had had before the test part.",
        *_groups(found.by_item),
        f"{found.never_met_share:.1%} of all targets had had none. They count in no other table. On "
        f"{found.never_met.requests:,} of them {FRESHET} reaches Recall@20 {found.never_met.recall_at_20}.",
    ]


def _between_trainings(report: Report) -> list[str]:
    found = report.between_trainings
    if found is None:
        return []
    rows = [[name, *_by_metric(scores)] for name, scores in found.scores.items()]
    requests = next(iter(found.scores.values())).requests
    return [
        "## Between trainings",
        f"{requests:,} requests of the first day of the test part, in their order: the model as it was trained, "
        f"and the same assembled anew {found.refreshes} times, each hour from what had happened before. All "
        f"targets count; {found.never_met_share:.1%} had been met by nobody when the model was trained.",
        _table(["model", *METRICS.values()], [*rows, ["gain", *_by_metric(found.gain)]]),
    ]


def _groups(groups: Mapping[str, Mapping[str, Scores]]) -> list[str]:
    """A table of Recall@20 and one of NDCG@10, groups in columns."""
    methods = list(next(iter(groups.values())))
    requests = ["requests", *(f"{group[FRESHET].requests:,}" for group in groups.values())]
    return [
        _table(
            [METRICS[metric], *groups],
            [
                requests,
                *(
                    [name, *(str(getattr(group[name], metric)) for group in groups.values())]
                    for name in methods
                ),
            ],
        )
        for metric in ("recall_at_20", "ndcg_at_10")
    ]


def _tuned(report: Report) -> list[str]:
    conditions = report.conditions
    rows = (
        [name, f"{best.score:.4f}", ", ".join(f"{key} {value:.4g}" for key, value in best.parameters.items())]
        for name, best in report.tuned.items()
    )
    return [
        "## Tuned parameters",
        f"Best of {conditions.trials} trials by {METRICS[conditions.tuned_by]} on {conditions.tuning_requests:,} "
        f"requests from {conditions.tuned_from} on; then fitted on all before the test part.",
        _table(["baseline", METRICS[conditions.tuned_by], "parameters"], rows),
    ]


def _conditions(report: Report) -> list[str]:
    rows = ([name.replace("_", " "), _value(value)] for name, value in asdict(report.conditions).items())
    return ["## Conditions", _table(["condition", "value"], rows)]


def _value(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {one}" for key, one in value.items())
    return f"{value:,.3f}" if isinstance(value, float) else str(value)


def _results(results: Mapping[str, Result]) -> str:
    rows = (
        [
            name,
            *_by_metric(result.scores),
            f"{result.coverage:.3f}",
            f"{result.diversity:.3f}",
            f"{result.novelty:.2f}",
        ]
        for name, result in results.items()
    )
    return _table(["method", *METRICS.values(), "coverage", "diversity", "novelty"], rows)


def _by_metric(found: Scores | Comparison) -> list[str]:
    return [str(getattr(found, metric)) for metric in METRICS]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
