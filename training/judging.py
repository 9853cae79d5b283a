"""The test part of a training run, replayed through the new model, the baselines and the live model."""

from typing import Final

import numpy as np

from serving.bundle import Bundle
from serving.recommender import Recommender
from training.calibration import ShownItems, shown_items
from training.evaluation.methods import baselines, evaluate, ranked_slates
from training.evaluation.metrics import Scores
from training.publish import Verdict, champion_for
from training.run_replays import as_replayed, replayed, with_user_history
from training.training_run import TrainingRun

RANKED: Final = "ranked"
"""Name of the recommender among the scores."""


def scores_and_verdict(run: TrainingRun, bundle: Bundle) -> tuple[dict[str, Scores], Verdict]:
    """Scores of the recommender, without the session, of the baselines and of the champion, on one replay.

    bundle: the new model as it is replayed; so is the champion.
    """
    settings, split, config = run.settings, run.plan.split, run.plan.config
    requests = replayed(run, split.test, split.end)
    known = bundle.items.first_seen[requests.wanted] >= 0  # each request of ``replay`` wants one item
    requests = requests.take(np.flatnonzero(known)).sample(config.test_requests, config.ranker.seed)
    requests = with_user_history(run, requests)
    ranked = ranked_slates(Recommender(bundle, settings.candidates))
    scores = {name: evaluate(requests, bundle, method, name) for name, method in baselines(bundle).items()}
    scores["ranked without session"] = evaluate(requests.without_windows(), bundle, ranked, "no session")
    scores[RANKED] = evaluate(requests, bundle, ranked, "ranked")
    champion = champion_for(settings.models_dir, split.test)
    if champion is None:
        return scores, Verdict(scores[RANKED].ndcg_at_10, None, None)
    champion = as_replayed(run, champion)
    slates = ranked_slates(Recommender(champion, settings.candidates))
    scores["champion"] = evaluate(requests, champion, slates, "champion")
    champion_score = scores["champion"].ndcg_at_10
    return scores, Verdict(scores[RANKED].ndcg_at_10, champion_score, champion.manifest.version)


def shown_in_test(run: TrainingRun, bundle: Bundle) -> ShownItems:
    """What the new model, as it is replayed, would have shown in the test part, and what became of it."""
    split, config = run.plan.split, run.plan.config
    requests = replayed(run, split.test, split.end).sample(config.calibration_requests, config.ranker.seed)
    recommender = Recommender(bundle, run.settings.candidates)
    return shown_items(recommender, with_user_history(run, requests), split.end)
