"""A contest: the recommender and the baselines, each fitted on the same past, answer the same requests."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tqdm import tqdm

from feature_repo.arrays import Int32
from serving.bundle import Bundle
from serving.recommender import Recommender
from training.evaluation.ablations import FRESHET
from training.evaluation.baselines import FittedBaseline, Past
from training.evaluation.methods import ranked_slates, slates
from training.evaluation.protocols import Ask
from training.evaluation.requests import Requests
from training.replay import Replay
from training.training_run import TrainingRun

SEED: Final = 20
"""Draws the requests."""


@dataclass(frozen=True)
class Contest:
    """Who answers: the recommender of a run and the baselines, all fitted on the ``past`` of the test part.

    A bundle of the run has the item codes of its log, so all answers are in these.
    """

    run: TrainingRun
    bundle: Bundle
    past: Past
    baselines: Mapping[str, FittedBaseline]

    def requests(self, ask: Ask, size: int) -> Requests:
        """At most ``size`` requests of the test part, 0 for all."""
        split = self.run.plan.split
        asked = ask(self.run.log, split.test, split.end, self.run.settings).sample(size, SEED)
        return asked.with_activity(self.run.activity)

    @property
    def recommender(self) -> Recommender:
        """The recommender as it is deployed."""
        return Recommender(self.bundle, self.run.settings.candidates)

    def freshet(self, requests: Replay) -> Int32:
        """int32[n, CUTOFF]: the slates of the recommender."""
        return slates(requests, self.bundle, ranked_slates(self.recommender), FRESHET)

    def baseline_answers(self, requests: Replay) -> dict[str, Int32]:
        """int32[n, CUTOFF] by name: the slates of the baselines; shows progress."""
        progress = tqdm(self.baselines.items(), desc="baselines", unit="method", leave=False)
        return {name: baseline.answers(requests) for name, baseline in progress}

    def answers(self, requests: Replay) -> dict[str, Int32]:
        """int32[n, CUTOFF] by name: the slates of all."""
        return {FRESHET: self.freshet(requests), **self.baseline_answers(requests)}
