"""The report of an evaluation: what was found, and under which conditions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from training.evaluation.ablations import FRESHET
from training.evaluation.between_trainings import BetweenTrainings
from training.evaluation.cold_start import ColdStart
from training.evaluation.complements import COMPLEMENTS, Complements
from training.evaluation.diversity import Frontier
from training.evaluation.metrics import to_text
from training.evaluation.results import Comparison, Result
from training.evaluation.sources import SourceReport
from training.evaluation.tuning import BestTrial

METRICS: Final = {"recall_at_20": "Recall@20", "mrr_at_20": "MRR@20", "ndcg_at_10": "NDCG@10"}
"""Names of the metrics by field."""


@dataclass(frozen=True)
class Conditions:
    """Under which an evaluation was made.

    Moments are ISO 8601, UTC: learned up to ranker_from, to rank up to test_from, tested up to end; baselines
    tuned from tuned_from on. targets: number of what all requests wanted; ceiling: share of that which was known at
    test_from; drawn_from: number of requests that ``requests`` were drawn from; items: that may be shown.
    """

    protocol: str
    command: str
    began: str
    seconds: float
    log_from: str
    tuned_from: str
    ranker_from: str
    test_from: str
    end: str
    events: int
    shoppers: int
    items: int
    requests: int
    drawn_from: int
    targets: int
    ceiling: float
    tuned_by: str
    tuning_requests: int
    trials: int
    candidates: int
    git_revision: str
    versions: Mapping[str, str]
    cores: int
    machine: str


@dataclass(frozen=True)
class ShownHalf:
    """What the shown half of a basket is worth to each method: results without it, and the gain from it."""

    from_history: Mapping[str, Result]
    gain: Mapping[str, Comparison]


@dataclass(frozen=True)
class Report:
    """All findings, by the name of the method.

    methods: Freshet and the baselines; against: Freshet compared with each baseline; ablations, and how each
    compares with Freshet (losses); sources, and recall by number of fused candidates; frontier of diversity.
    """

    conditions: Conditions
    methods: Mapping[str, Result]
    against: Mapping[str, Comparison]
    tuned: Mapping[str, BestTrial]
    ablations: Mapping[str, Result]
    losses: Mapping[str, Comparison]
    sources: Mapping[str, SourceReport]
    fused_recall: Mapping[int, float]
    frontier: Frontier
    cold_start: ColdStart | None
    shown_half: ShownHalf | None
    complements: Complements | None
    between_trainings: BetweenTrainings | None

    def summary(self) -> str:
        """What a person wants to know first."""
        conditions, metric = self.conditions, METRICS[self.conditions.tuned_by]
        best = max(
            self.against, key=lambda name: getattr(self.methods[name].scores, conditions.tuned_by).mean
        )
        lines = [
            to_text({name: result.scores for name, result in self.methods.items()}),
            "",
            f"{conditions.ceiling:.1%} of {conditions.targets:,} targets were known before {conditions.test_from}",
            f"{FRESHET} against {best}, {metric}: {getattr(self.against[best], conditions.tuned_by)}",
        ]
        if self.shown_half is not None:
            gain = getattr(self.shown_half.gain[FRESHET], conditions.tuned_by)
            lines.append(f"{FRESHET} with half of the basket against history alone, {metric}: {gain}")
        if self.complements is not None:
            for name, gain in self.complements.gain.items():
                difference = getattr(gain, conditions.tuned_by)
                lines.append(f"{COMPLEMENTS} on the page of an item against {name}, {metric}: {difference}")
        if self.between_trainings is not None:
            gain = getattr(self.between_trainings.gain, conditions.tuned_by)
            lines.append(
                f"{FRESHET} refreshed every hour against as trained, on the next day, {metric}: {gain}"
            )
        return "\n".join(lines)
