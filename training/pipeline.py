"""One training run: archive -> retrieval models -> ranker -> evaluation -> gate -> bundle -> publish.

Time is cut in three. Retrieval models of the oldest part make the rows that the ranker learns on; refitted up
to the newest part, they are evaluated on it together with the ranker; refitted on everything, they go live.

Each step leaves its result in the run's folder and takes what it needs from there, so that a step may run in a
process of its own, and one that was killed may be run again.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Final

import lightgbm
import numpy as np
from filelock import FileLock, Timeout

from feature_repo.errors import InputError
from feature_repo.schema import DAY
from feature_repo.settings import Settings
from feature_repo.user_tower import UserTower
from serving.bundle import Bundle, read_bundle, write_bundle
from serving.recommender import Recommender
from training.assemble import fit
from training.config import TrainingConfig
from training.dataset import encode, fingerprint, read_inputs, split_by_time
from training.embeddings import fit_embeddings, refit_embeddings
from training.evaluation import BASELINES, Scores, baselines, evaluate, ranked_slates, to_text
from training.feature_history import user_statistics_at, write_user_history
from training.manifest import new_manifest, new_version
from training.publish import (
    GATE,
    Verdict,
    champion_for,
    evaluation_dir,
    publish,
    remove_unfinished,
    verdict_record,
)
from training.ranker import fit_ranker, ranker_rows
from training.replay import Replay, replay
from training.training_run import Outcome, Plan, TrainingRun

MIN_INTERACTIONS: Final = 200
RANKED: Final = "ranked"
"""Name of the recommender among the scores."""
LOCK: Final = ".training.lock"
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
    learn_ranker(run)
    outcome = judge(run)
    if not outcome.verdict.passed and not force:
        logger.warning("the gate will refuse this model:\n%s", to_text(outcome.scores))
    make_bundle(run)
    return go_live(run, force)


def begin(settings: Settings, config: TrainingConfig, before: int | None = None) -> TrainingRun:
    """Freeze the log and the catalog, and cut time. Raises InputError when there is too little to learn from."""
    with _alone(settings), _step("archive"):
        remove_unfinished(settings.models_dir)
        events, items = read_inputs(settings, before)
        _, log = encode(events, items)
        active = log.interactions()
        if len(active) < MIN_INTERACTIONS:
            raise InputError(
                f"{settings.archive_dir} holds {len(active)} interactions with items, training needs "
                f"{MIN_INTERACTIONS}: bring in a log with `freshet import`, or try `freshet simulate`"
            )
        split = split_by_time(active, ranker_share=config.ranker_share, test_share=config.test_share)
        write_user_history(settings.features_dir, events, items, split)
        created = time.time_ns() // 1000
        plan = Plan(new_version(created), created, config, split)
        return TrainingRun.begin(settings, fingerprint(log, config), plan, events, items)


def learn_embeddings(run: TrainingRun) -> None:
    """Fit the tower of the oldest part."""
    with _alone(run.settings), _step("embeddings"):
        if run.first_tower() is None:
            until = run.plan.split.ranker
            fitted = fit_embeddings(run.log.before(until), run.plan.config.embeddings, run.scalars(until))
            logger.info("embeddings: Recall@20 %.4f after %d epochs", fitted.recall, fitted.epochs)
            run.keep_first_tower(fitted.tower)


def learn_ranker(run: TrainingRun) -> None:
    """Fit the ranker on the middle part, replayed through models of the oldest; leave the bundle to judge."""
    with _alone(run.settings), _step("ranker"):
        first = run.first_tower()
        if first is None:
            raise InputError(
                f"training run {run.name} has no embeddings yet: that step comes before the ranker"
            )
        if not run.judged.exists():
            ranker = _fit_ranker(run, first)
            until = run.plan.split.test
            write_bundle(_bundle(run, until, _refit(run, until, first), ranker), run.judged)


def judge(run: TrainingRun) -> Outcome:
    """Replay the test part: scores of the new model, of the baselines and of the live one, and the verdict."""
    with _alone(run.settings), _step("evaluation"):
        scores, verdict = _scores(run, read_bundle(run.judged))
    best_baseline = max(BASELINES, key=lambda name: scores[name].ndcg_at_10.mean)
    if scores[best_baseline].ndcg_at_10.mean > scores[RANKED].ndcg_at_10.mean:
        logger.warning("%s alone scores higher on this log: it may be too small to learn from", best_baseline)
    outcome = Outcome(run.plan.version, scores, verdict)
    run.keep_outcome(outcome)
    return outcome


def make_bundle(run: TrainingRun) -> None:
    """Refit on everything, and write the bundle and its twin that knows nothing of the test part."""
    models, version = run.settings.models_dir, run.plan.version
    with _alone(run.settings), _step("refit on everything"):
        if not (models / version).exists():
            judged, outcome, end = read_bundle(run.judged), run.outcome, run.plan.split.end
            scores = {name: asdict(score) for name, score in outcome.scores.items()}
            final = _bundle(run, end, _refit(run, end, judged.tower), judged.ranker)
            metrics = {SCORES: scores, GATE: verdict_record(outcome.verdict)}
            twin = evaluation_dir(models, version)
            if not twin.exists():
                write_bundle(judged, twin)
            write_bundle(replace(final, manifest=replace(final.manifest, metrics=metrics)), models / version)
        run.remove_work()


def go_live(run: TrainingRun, force: str | None = None) -> Outcome:
    """Publish the bundle if its verdict, or a reason to ``force`` it, allows that; else GateRefusedError."""
    outcome = run.outcome
    publish(run.settings.models_dir, outcome.version, keep=run.settings.bundles_kept, force=force)
    return outcome


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Hold the home's training lock."""
    settings.home.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(settings.home / LOCK, timeout=0):
            yield
    except Timeout:
        raise InputError(f"another training runs on {settings.home}: wait until it has ended") from None


def _refit(run: TrainingRun, until: int, start: UserTower) -> UserTower:
    """The tower of all events before ``until``, learned on from an earlier one."""
    config = run.plan.config.embeddings
    return refit_embeddings(run.log.before(until), config, start, run.scalars(until)).tower


def _bundle(run: TrainingRun, as_of: int, tower: UserTower, ranker: lightgbm.Booster | None) -> Bundle:
    """A bundle of all that is known before ``as_of``."""
    shop, fitted = run.shop, fit(run.log, run.shop, tower, as_of)
    return Bundle(
        manifest=new_manifest(run.plan.version, run.plan.created, int(run.log.time.min()), as_of),
        item_ids=shop.item_ids,
        catalog=shop.catalog,
        categories=shop.categories,
        shopper_keys=fitted.shopper_keys,
        items=fitted.items,
        tower=fitted.tower,
        retrieval=fitted.retrieval,
        users=fitted.users,
        ranker=ranker,
    )


def _fit_ranker(run: TrainingRun, tower: UserTower) -> lightgbm.Booster | None:
    split, ranker = run.plan.split, run.plan.config.ranker
    recommender = Recommender(_bundle(run, split.ranker, tower, None), run.settings.candidates)
    requests = _replay(run, split.ranker, split.test).sample(ranker.requests, ranker.seed)
    requests = _with_user_history(run, requests).with_lost_windows(ranker.lost_windows, ranker.seed)
    rows = ranker_rows(recommender, requests, ranker)
    logger.info("ranker: %d of %d targets retrieved", len(rows.groups), len(requests))
    return fit_ranker(rows, ranker)


def _scores(run: TrainingRun, bundle: Bundle) -> tuple[dict[str, Scores], Verdict]:
    """Scores of the recommender, without the session, of the baselines and of the champion, on one replay."""
    settings, split, config = run.settings, run.plan.split, run.plan.config
    requests = _replay(run, split.test, split.end)
    known = bundle.items.first_seen[requests.target] >= 0
    requests = requests.take(np.flatnonzero(known)).sample(config.test_requests, config.ranker.seed)
    requests = _with_user_history(run, requests)
    ranked = ranked_slates(Recommender(bundle, settings.candidates))
    scores = {name: evaluate(requests, bundle, method, name) for name, method in baselines(bundle).items()}
    scores["ranked without session"] = evaluate(requests.without_windows(), bundle, ranked, "no session")
    scores[RANKED] = evaluate(requests, bundle, ranked, "ranked")
    champion = champion_for(settings.models_dir, split.test)
    if champion is None:
        return scores, Verdict(scores[RANKED].ndcg_at_10, None, None)
    slates = ranked_slates(Recommender(champion, settings.candidates))
    scores["champion"] = evaluate(requests, champion, slates, "champion")
    champion_score = scores["champion"].ndcg_at_10
    return scores, Verdict(scores[RANKED].ndcg_at_10, champion_score, champion.manifest.version)


def _replay(run: TrainingRun, start: int, end: int) -> Replay:
    ttl = int(run.settings.window_ttl_days * DAY)
    return replay(run.log, start, end, run.settings.window_size, ttl).with_window()


def _with_user_history(run: TrainingRun, requests: Replay) -> Replay:
    """The requests with the statistics of their shoppers as they stood at the moment of asking."""
    keys = run.log.shopper_keys[requests.shopper]
    return requests.with_user_statistics(user_statistics_at(run.settings, keys, requests.as_of))


@contextmanager
def _step(name: str) -> Iterator[None]:
    started = time.perf_counter()
    logger.info("%s ...", name)
    yield
    logger.info("%s took %.1f s", name, time.perf_counter() - started)
