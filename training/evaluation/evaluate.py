"""The evaluation of a shop: Freshet as it would have served the newest part of the log, against tuned baselines.

Everything is fitted and tuned on what came before the test part, which is replayed once. Nothing is published.
"""

import logging
import os
import platform
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

from feature_repo.errors import InputError
from feature_repo.settings import Settings
from training.config import TrainingConfig
from training.evaluation.ablations import FRESHET, ablate
from training.evaluation.baselines import Past
from training.evaluation.baskets import page_of_basket
from training.evaluation.between_trainings import BetweenTrainings, between_trainings
from training.evaluation.cold_start import NEW, ColdStart, item_groups, scores_by_group, shopper_groups
from training.evaluation.complements import Complements, complements
from training.evaluation.contest import SEED, Contest
from training.evaluation.diversity import REQUESTS as FRONTIER_REQUESTS
from training.evaluation.diversity import frontier
from training.evaluation.metrics import Quality, Scores
from training.evaluation.next_item import first_item, never_met_item
from training.evaluation.protocol import Protocol
from training.evaluation.protocols import ASK, CUT, TUNED_BY, tuned_from
from training.evaluation.report import Conditions, Report, ShownHalf
from training.evaluation.report_files import write_report
from training.evaluation.requests import Requests
from training.evaluation.results import Catalogue, compare, measure, quality_of
from training.evaluation.tuning import REQUESTS, Studies, tune_all
from training.pipeline import begin, learn_embeddings, learn_encoder, learn_ranker
from training.run_replays import read_judged, with_user_history
from training.training_run import TrainingRun

FOLDER: Final = "evaluation"
"""Under FRESHET_HOME, with a folder for each protocol."""
PACKAGES: Final = ("freshet", "numpy", "lightgbm", "torch", "onnxruntime", "implicit", "optuna")
"""Whose versions a report names."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Examination:
    """What is asked: a protocol, at most so many requests (0 for all), and trials to tune each baseline."""

    protocol: Protocol
    requests: int = 5000
    trials: int = 20


def evaluate(
    settings: Settings, config: TrainingConfig, examination: Examination, out: Path | None = None
) -> Report:
    """Evaluate on the archive, and write the report to ``out`` or else under FRESHET_HOME/evaluation.

    Raises InputError where the log has too little to learn from, or nobody does what the protocol asks for.
    """
    began = time.time()
    folder = out or settings.home / FOLDER / examination.protocol
    folder.mkdir(parents=True, exist_ok=True)
    run = train_before_the_test(settings, config, examination.protocol)
    bundle = read_judged(run)
    past = Past.before(run.plan.split.test, run.log, bundle.availability.available)
    studies = _studies(run, past, examination)
    tuned = tune_all(studies)
    contest = Contest(run, bundle, past, tuned.fit(past))
    asked = _test_requests(contest, examination)
    logger.info("%s and its ablations answer %d requests ...", FRESHET, len(asked))
    ablations = ablate(asked.replay, bundle, settings.candidates)
    logger.info("the baselines answer them ...")
    answers = {FRESHET: ablations.slates.pop(FRESHET), **contest.baseline_answers(asked.replay)}
    logger.info("scores and their intervals ...")
    catalogue = Catalogue(int(past.available.sum()), bundle.tower.embeddings, past.counts)
    quality = {name: quality_of(one, asked.replay) for name, one in (answers | ablations.slates).items()}
    shopper = asked.replay.shopper
    logger.info("slates along the dial of diversity ...")
    report = Report(
        methods={name: measure(one, asked.replay, catalogue) for name, one in answers.items()},
        against={name: compare(quality[FRESHET], quality[name], shopper) for name in contest.baselines},
        tuned={name: one.best for name, one in tuned.by_name.items()},
        ablations={name: measure(one, asked.replay, catalogue) for name, one in ablations.slates.items()},
        losses={name: compare(quality[name], quality[FRESHET], shopper) for name in ablations.slates},
        sources=ablations.sources,
        fused_recall=ablations.fused_recall,
        frontier=frontier(asked.replay.sample(FRONTIER_REQUESTS, SEED), contest.recommender),
        cold_start=_cold_start(contest, examination, asked, {name: quality[name] for name in answers}),
        shown_half=_shown_half(contest, asked, catalogue, quality),
        complements=_complements(contest, examination),
        between_trainings=_between_trainings(contest, examination),
        conditions=_conditions(examination, contest, studies, asked, began),
    )
    write_report(report, folder)
    logger.info("the report lies in %s", folder)
    return report


def train_before_the_test(settings: Settings, config: TrainingConfig, protocol: Protocol) -> TrainingRun:
    """A run whose ``judged`` bundle was trained on what came before the test part, ranker and all.

    What an earlier evaluation of the same archive has left is not trained again.
    """
    run = begin(settings, config, cut=CUT[protocol])
    learn_embeddings(run)
    learn_encoder(run)
    learn_ranker(run)
    return run


def _studies(run: TrainingRun, past: Past, examination: Examination) -> Studies:
    """Baselines are tuned on requests like those of the test part, from just before it."""
    protocol, split = examination.protocol, run.plan.split
    start = tuned_from(protocol, split)
    requests = ASK[protocol](run.log, start, split.test, run.settings)
    _require(requests, protocol, "just before the test part")
    chosen = requests.sample(REQUESTS, SEED)
    logger.info("baselines are tuned on %d requests, in %d trials each ...", len(chosen), examination.trials)
    before = Past.before(start, run.log, past.available)
    return Studies(before, chosen.replay, TUNED_BY[protocol], examination.trials)


def _test_requests(contest: Contest, examination: Examination) -> Requests:
    protocol = examination.protocol
    requests = contest.requests(ASK[protocol], examination.requests)
    _require(requests, protocol, "in the test part")
    if protocol != Protocol.NEXT_ITEM:
        return requests
    return replace(requests, replay=with_user_history(contest.run, requests.replay))


def _require(requests: Requests, protocol: Protocol, where: str) -> None:
    if not len(requests):
        raise InputError(
            f"{where} nobody does what --protocol {protocol} asks for: bring in a longer log with "
            "`freshet import`, or take another protocol (docs/evaluation.md)"
        )


def _cold_start(
    contest: Contest, examination: Examination, asked: Requests, quality: Mapping[str, Quality]
) -> ColdStart | None:
    if examination.protocol != Protocol.NEXT_ITEM:
        return None
    logger.info("cold start ...")
    newcomers = contest.requests(first_item, examination.requests).replay
    answers = {name: quality_of(one, newcomers) for name, one in contest.answers(newcomers).items()}
    never_met = with_user_history(contest.run, contest.requests(never_met_item, examination.requests).replay)
    return ColdStart(
        by_shopper={
            NEW: {name: Scores.of(one, newcomers.shopper) for name, one in answers.items()},
            **scores_by_group(quality, asked.replay.shopper, shopper_groups(asked.replay)),
        },
        by_item=scores_by_group(
            quality, asked.replay.shopper, item_groups(asked.replay, contest.past.counts)
        ),
        never_met_share=1 - asked.ceiling,
        never_met=Scores.of(quality_of(contest.freshet(never_met), never_met), never_met.shopper),
    )


def _shown_half(
    contest: Contest, asked: Requests, catalogue: Catalogue, quality: Mapping[str, Quality]
) -> ShownHalf | None:
    if asked.from_history is None:
        return None
    logger.info("the same from the history alone ...")
    answers = contest.answers(asked.from_history)
    blind = {name: quality_of(one, asked.from_history) for name, one in answers.items()}
    shopper = asked.replay.shopper
    return ShownHalf(
        from_history={name: measure(one, asked.from_history, catalogue) for name, one in answers.items()},
        gain={name: compare(quality[name], blind[name], shopper) for name in answers},
    )


def _complements(contest: Contest, examination: Examination) -> Complements | None:
    if examination.protocol != Protocol.BASKET_COMPLETION:
        return None
    logger.info("what goes with an item ...")
    asked = contest.requests(page_of_basket, examination.requests)
    return complements(asked.replay, contest.recommender, contest.past.log)


def _between_trainings(contest: Contest, examination: Examination) -> BetweenTrainings | None:
    if examination.protocol != Protocol.NEXT_ITEM:
        return None
    logger.info("the day after the training, with the model refreshed every hour ...")
    return between_trainings(contest.run, contest.bundle, examination.requests, SEED)


def _conditions(
    examination: Examination, contest: Contest, studies: Studies, asked: Requests, began: float
) -> Conditions:
    run, split = contest.run, contest.run.plan.split
    return Conditions(
        protocol=examination.protocol,
        command=shlex.join(["freshet", *sys.argv[1:]]),
        began=_iso(int(began * 1e6)),
        seconds=time.time() - began,
        log_from=_iso(int(run.log.time.min())),
        tuned_from=_iso(studies.past.until),
        ranker_from=_iso(split.ranker),
        test_from=_iso(split.test),
        end=_iso(split.end),
        events=len(run.log),
        shoppers=len(run.log.shopper_keys),
        items=int(contest.past.available.sum()),
        requests=len(asked),
        drawn_from=asked.drawn_from,
        targets=asked.targets,
        ceiling=asked.ceiling,
        tuned_by=studies.metric,
        tuning_requests=len(studies.requests),
        trials=examination.trials,
        candidates=run.settings.candidates,
        git_revision=contest.bundle.manifest.git_revision,
        versions={package: version(package) for package in PACKAGES},
        cores=os.cpu_count() or 1,
        machine=platform.platform(),
    )


def _iso(moment: int) -> str:
    return datetime.fromtimestamp(moment / 1e6, UTC).isoformat(timespec="seconds")
