"""One training run: archive -> retrieval models -> ranker -> evaluation -> gate -> bundle -> publish.

Time is cut in three. Retrieval models of the oldest part make the rows that the ranker learns on; refitted up
to the newest part, they are evaluated on it together with the ranker; refitted on everything, they go live.

Each step leaves its result in the run's folder and takes what it needs from there, so that a step may run in a
process of its own, and one that was killed may be run again.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from typing import Final

import numpy as np

from feature_repo.encoded_log import EncodedLog
from feature_repo.errors import InputError
from feature_repo.ranking_features import RANKING_HASH
from feature_repo.settings import Settings
from feature_repo.user_tower import UserTower
from serving.bundle import Bundle
from serving.bundle_files import read_bundle, write_bundle
from serving.ranking import Rankers
from serving.recommender import Recommender
from training.arrivals import in_session
from training.assemble import assemble
from training.calibration import calibrate, plot_reliability, reliability
from training.config import TrainingConfig
from training.dataset import Split, encode, fingerprint, read_inputs, split_by_time
from training.embeddings import fit_embeddings, refit_embeddings
from training.encoder import fit_encoder, read_encoder, refit_encoder
from training.evaluation.methods import BASELINES
from training.evaluation.metrics import to_text
from training.feature_history import write_user_history
from training.feature_retention import forget_features
from training.impressions import impression_rows
from training.judging import RANKED, scores_and_verdict, shown_in_test
from training.learned import Learned
from training.locks import FOREVER, features_lock, served_lock, training_lock
from training.manifest import new_manifest, new_version
from training.publish import (
    GATE,
    evaluation_dir,
    publish,
    remove_unfinished,
    verdict_record,
)
from training.ranker import NO_ROWS, RankerRows, fit_ranker, ranker_rows, together
from training.ranker_search import search_ranker
from training.replay import Replay
from training.run_replays import as_replayed, read_judged, replayed, replayed_arrivals, with_user_history
from training.training_run import RELIABILITY, Outcome, Plan, TrainingRun

MIN_INTERACTIONS: Final = 200
SCORES: Final = "scores"
"""Key of the evaluation in a manifest's metrics."""

logger = logging.getLogger(__name__)


def train(
    settings: Settings, config: TrainingConfig, force: str | None = None, before: int | None = None
) -> Outcome:
    """Train on the archive, its events earlier than ``before`` (microseconds), and publish the bundle.

    Raises InputError when there is too little to learn from, and GateRefusedError when the new model is worse than
    the live one and no reason to ``force`` it is given; the refused bundle stays, unpublished.
    """
    run = begin(settings, config, before)
    learn_embeddings(run)
    learn_encoder(run)
    learn_ranker(run)
    outcome = judge(run)
    if not outcome.verdict.passed and not force:
        logger.warning("the gate will refuse this model:\n%s", to_text(outcome.scores))
    make_bundle(run)
    return go_live(run, force)


def begin(
    settings: Settings,
    config: TrainingConfig,
    before: int | None = None,
    cut: Callable[[EncodedLog], Split] | None = None,
) -> TrainingRun:
    """Freeze the log and the catalog, and cut time as ``cut`` says of the interactions, else by shares of them.

    Raises InputError when there is too little to learn from.
    """
    with training_lock(settings), _timed("archive"):
        remove_unfinished(settings.models_dir)
        events, items = read_inputs(settings, before)
        _, log = encode(events, items)
        active = log.interactions()
        if len(active) < MIN_INTERACTIONS:
            raise InputError(
                f"{settings.archive_dir} holds {len(active)} interactions with items, training needs "
                f"{MIN_INTERACTIONS}: bring in a log with `freshet import`, or try `freshet simulate`"
            )
        shares = partial(split_by_time, ranker_share=config.ranker_share, test_share=config.test_share)
        split = (cut or shares)(active)
        created = time.time_ns() // 1000
        plan = Plan(new_version(created), created, config, split, len(log.item_ids))
        # What an earlier release left unfinished was made for other features.
        name = fingerprint(log, (config, split, RANKING_HASH))
        with features_lock(settings):
            write_user_history(settings.features_dir, events, items, split)
            run = TrainingRun.begin(settings, name, plan, events, items)
            forget_features(settings, split.end)
        return run


def learn_embeddings(run: TrainingRun) -> None:
    """Fit the tower of the oldest part."""
    with _step(run.settings, "embeddings"):
        if run.first_tower() is None:
            until = run.plan.split.ranker
            fitted = fit_embeddings(run.log.before(until), run.plan.config.embeddings, run.scalars(until))
            logger.info("embeddings: Recall@20 %.4f after %d epochs", fitted.recall, fitted.epochs)
            run.keep_first_tower(fitted.tower)


def learn_encoder(run: TrainingRun) -> None:
    """Fit the session encoder of the oldest part."""
    with _step(run.settings, "session encoder"):
        until = run.plan.split.ranker
        weights = run.encoder_weights(until)
        if not weights.exists():
            config, tower = run.plan.config.encoder, _first_tower(run)
            learned = fit_encoder(run.log.before(until), config, tower, run.scalars(until), weights)
            logger.info("session encoder: Recall@20 %.4f after %d epochs", learned.recall, learned.epochs)


def learn_ranker(run: TrainingRun) -> None:
    """Fit the ranker on the middle part, replayed through models of the oldest; leave the bundle to judge."""
    with _step(run.settings, "ranker"):
        if not run.judged.exists():
            split, first = run.plan.split, _first_tower(run)
            rankers = _fit_rankers(run, first)
            write_bundle(_refitted(run, split.test, split.ranker, first, rankers), run.judged)


def judge(run: TrainingRun) -> Outcome:
    """Replay the test part: scores of the new model, of the baselines and of the live one, and the verdict."""
    with _step(run.settings, "evaluation"):
        judged = read_judged(run)
        scores, verdict = scores_and_verdict(run, judged)
        shown = shown_in_test(run, judged)
        run.keep_calibration(calibrate(shown))
        found = reliability(shown)
        plot_reliability(found, run.folder / RELIABILITY)
        outcome = Outcome(run.plan.version, scores, verdict, found)
        run.keep_outcome(outcome)
    best_baseline = max(BASELINES, key=lambda name: scores[name].ndcg_at_10.mean)
    if scores[best_baseline].ndcg_at_10.mean > scores[RANKED].ndcg_at_10.mean:
        logger.warning("%s alone scores higher on this log: it may be too small to learn from", best_baseline)
    return outcome


def make_bundle(run: TrainingRun) -> None:
    """Refit on everything, and write the bundle and its twin that knows nothing of the test part."""
    models, version = run.settings.models_dir, run.plan.version
    with _step(run.settings, "refit on everything"):
        if not (models / version).exists():
            judged, outcome, end = read_bundle(run.judged), run.outcome, run.plan.split.end
            scores = {name: asdict(score) for name, score in outcome.scores.items()}
            final = _refitted(run, end, run.plan.split.test, judged.tower, judged.rankers)
            metrics = {SCORES: scores, GATE: verdict_record(outcome.verdict)}
            twin = evaluation_dir(models, version)
            if not twin.exists():
                write_bundle(judged, twin)
            manifest = replace(final.manifest, metrics=metrics)
            write_bundle(replace(final, manifest=manifest, calibration=run.calibration), models / version)
        run.remove_work()


def go_live(run: TrainingRun, force: str | None = None) -> Outcome:
    """Publish the bundle if its verdict, or a reason to ``force`` it, allows that; else GateRefusedError."""
    outcome = run.outcome
    publish(run.settings.models_dir, outcome.version, keep=run.settings.bundles_kept, force=force)
    return outcome


def _first_tower(run: TrainingRun) -> UserTower:
    tower = run.first_tower()
    if tower is None:
        raise InputError(f"training run {run.name} has no embeddings yet: that step comes first")
    return tower


def _refitted(run: TrainingRun, until: int, start: int, tower: UserTower, rankers: Rankers) -> Bundle:
    """The bundle of all events before ``until``, its models learned on from those of the events before another."""
    log, config, scalars = run.log.before(until), run.plan.config, run.scalars(until)
    weights = run.encoder_weights(until)
    if not weights.exists():
        refit_encoder(log, config.encoder, run.encoder_weights(start), scalars, weights)
    tower = refit_embeddings(log, config.embeddings, tower, scalars).tower
    return _bundle(run, until, Learned(tower, read_encoder(log, config.encoder, weights), rankers))


def _bundle(run: TrainingRun, as_of: int, learned: Learned) -> Bundle:
    """A bundle of all that is known before ``as_of``."""
    manifest = new_manifest(run.plan.version, run.plan.created, int(run.log.time.min()), as_of)
    return assemble(run.log, run.shop, manifest, learned, as_of=as_of)


def _fit_rankers(run: TrainingRun, tower: UserTower) -> Rankers:
    """Learn to rank from the middle part: in sessions what comes next, on arrivals what the visit brings."""
    split, config = run.plan.split, run.plan.config
    weights = run.encoder_weights(split.ranker)
    if not weights.exists():
        raise InputError(
            f"training run {run.name} has no session encoder yet: that step comes before the rankers"
        )
    encoder = read_encoder(run.log.before(split.ranker), config.encoder, weights)
    bundle = as_replayed(run, _bundle(run, split.ranker, Learned(tower, encoder)))
    recommender = Recommender(bundle, run.settings.candidates)
    next_items = replayed(run, split.ranker, split.test)
    next_items = next_items.take(np.flatnonzero(in_session(next_items)))
    next_items = next_items.with_lost_windows(config.ranker.lost_windows, config.ranker.seed)
    arrivals = replayed_arrivals(run, split.ranker, split.test)
    shown = _impression_rows(run, split.test)
    rows = together(*(_ranker_rows(run, recommender, requests) for requests in (next_items, arrivals)), shown)
    live = rows.in_session()
    parts = (rows.take(live), rows.take(~live))
    return Rankers(*(fit_ranker(part, search_ranker(part, config.ranker)) for part in parts))


def _impression_rows(run: TrainingRun, before: int) -> RankerRows:
    """Rows of as many served slates as the settings want."""
    most = run.settings.training_impressions
    if not most:  # nor is anybody waited for who merges them
        return NO_ROWS
    with served_lock(run.settings, FOREVER):
        return impression_rows(run.settings.served_dir, run.reactions(), before, most)


def _ranker_rows(run: TrainingRun, recommender: Recommender, requests: Replay) -> RankerRows:
    config = run.plan.config.ranker
    requests = with_user_history(run, requests.sample(config.requests, config.seed))
    requests = requests.with_lost_activity(config.lost_activity, config.seed)
    rows = ranker_rows(recommender, requests, config)
    logger.info("ranker: %d of %d requests found what they wanted", len(rows.groups), len(requests))
    return rows


@contextmanager
def _step(settings: Settings, name: str) -> Iterator[None]:
    """A step after the first; an erasure that has come between the two is waited for."""
    with _timed(name), training_lock(settings, FOREVER):
        yield


@contextmanager
def _timed(name: str) -> Iterator[None]:
    started = time.perf_counter()
    logger.info("%s ...", name)
    yield
    logger.info("%s took %.1f s", name, time.perf_counter() - started)
