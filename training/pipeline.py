"""One training run: archive -> features -> retrieval models -> ranker -> evaluation -> gate -> bundle -> publish.

Time is cut in three. Retrieval models of the oldest part make the rows that the ranker learns on; refitted up
to the newest part, they are evaluated on it together with the ranker; refitted on everything, they go live.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import lightgbm
import numpy as np
from filelock import FileLock, Timeout

from feature_repo.errors import InputError
from feature_repo.schema import DAY
from feature_repo.settings import Settings
from feature_repo.user_tower import UserTower
from serving.bundle import Bundle, write_bundle
from serving.recommender import Recommender
from training.assemble import fit
from training.dataset import fingerprint, read_shop, split_by_time
from training.embedding_model import EmbeddingConfig
from training.embeddings import fit_embeddings, refit_embeddings
from training.evaluation import Scores, baselines, evaluate, ranked_slates, to_text
from training.manifest import new_manifest
from training.publish import (
    GATE,
    Verdict,
    champion_for,
    evaluation_dir,
    publish,
    remove_unfinished,
    verdict_record,
)
from training.ranker import RankerConfig, fit_ranker, ranker_rows
from training.replay import Replay, replay

MIN_INTERACTIONS: Final = 200
RANKED: Final = "ranked"
"""Name of the recommender among the scores."""
LOCK: Final = ".training.lock"
SCORES: Final = "scores"
"""Key of the evaluation in a manifest's metrics."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingConfig:
    """How a run trains and evaluates."""

    embeddings: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    ranker: RankerConfig = field(default_factory=RankerConfig)
    ranker_share: float = 0.1  # of the interactions, newest first, after the test part
    test_share: float = 0.1
    test_requests: int = 10_000


@dataclass(frozen=True)
class Outcome:
    """What a run made: the version, its scores by method, the gate's verdict."""

    version: str
    scores: dict[str, Scores]
    verdict: Verdict


def train(settings: Settings, config: TrainingConfig, force: str | None = None) -> Outcome:
    """Train on the archive and publish the bundle.

    Raises InputError when there is too little to learn from, and GateRefusedError when the new model is worse than
    the live one and no reason to ``force`` it is given; the refused bundle stays, unpublished.
    """
    with _alone(settings):
        return _train(_Run(settings, config), force)


def _train(run: "_Run", force: str | None) -> Outcome:
    tower = run.fit_first_tower()
    with _step("ranker"):
        ranker = run.fit_ranker(tower)
    with _step("refit up to the test part"):
        tower = run.refit_tower(run.split.test, tower)
        judged = run.bundle(run.split.test, tower, ranker)
    with _step("evaluation"):
        scores, verdict = run.judge(judged)
        if not verdict.passed and not force:
            logger.warning("the gate will refuse this model:\n%s", to_text(scores))
    best_baseline = max(baselines(judged), key=lambda name: scores[name].ndcg_at_10.mean)
    if scores[best_baseline].ndcg_at_10.mean > scores[RANKED].ndcg_at_10.mean:
        logger.warning("%s alone scores higher on this log: it may be too small to learn from", best_baseline)
    with _step("refit on everything"):
        final = run.bundle(run.split.end, run.refit_tower(run.split.end, tower), ranker)
    metrics = {SCORES: {name: asdict(score) for name, score in scores.items()}, GATE: verdict_record(verdict)}
    version = final.manifest.version
    with _step("bundle"):
        models = run.settings.models_dir
        twin = replace(judged, manifest=replace(judged.manifest, version=version))
        write_bundle(twin, evaluation_dir(models, version))
        write_bundle(replace(final, manifest=replace(final.manifest, metrics=metrics)), models / version)
    publish(models, version, keep=run.settings.bundles_kept, force=force)
    return Outcome(version, scores, verdict)


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Hold the home's training lock; what an interrupted training left half-written is removed."""
    settings.home.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(settings.home / LOCK, timeout=0):
            remove_unfinished(settings.models_dir)
            yield
    except Timeout:
        raise InputError(f"another training runs on {settings.home}: wait until it has ended") from None


class _Run:
    """The inputs of a run, read once, and the steps over them."""

    def __init__(self, settings: Settings, config: TrainingConfig) -> None:
        self.settings = settings
        self.config = config
        with _step("archive"):
            self.shop, self.log = read_shop(settings)
        active = self.log.interactions()
        if len(active) < MIN_INTERACTIONS:
            raise InputError(
                f"{settings.archive_dir} holds {len(active)} interactions with items, training needs "
                f"{MIN_INTERACTIONS}: bring in a log with `freshet import`, or try `freshet simulate`"
            )
        self.split = split_by_time(active, ranker_share=config.ranker_share, test_share=config.test_share)
        self.fingerprint = fingerprint(self.log, config)

    def fit_first_tower(self) -> UserTower:
        """The tower of the oldest part."""
        with _step("embeddings"):
            fitted = fit_embeddings(
                self.log.before(self.split.ranker), self.config.embeddings, self._folder(self.split.ranker)
            )
            logger.info("embeddings: Recall@20 %.4f after %d epochs", fitted.recall, fitted.epochs)
        return fitted.tower

    def refit_tower(self, until: int, start: UserTower) -> UserTower:
        """The tower of all events before ``until``, learned on from an earlier one."""
        log = self.log.before(until)
        return refit_embeddings(log, self.config.embeddings, start, self._folder(until)).tower

    def fit_ranker(self, tower: UserTower) -> lightgbm.Booster | None:
        """The ranker, from the middle part replayed through models of the oldest part."""
        recommender = Recommender(self.bundle(self.split.ranker, tower, None), self.settings.candidates)
        ranker = self.config.ranker
        requests = self._replay(self.split.ranker, self.split.test).sample(ranker.requests, ranker.seed)
        requests = requests.with_lost_windows(ranker.lost_windows, ranker.seed)
        rows = ranker_rows(recommender, requests, ranker)
        logger.info("ranker: %d of %d targets retrieved", len(rows.groups), len(requests))
        return fit_ranker(rows, ranker)

    def bundle(self, as_of: int, tower: UserTower, ranker: lightgbm.Booster | None) -> Bundle:
        """A bundle of all that is known before ``as_of``."""
        fitted = fit(self.log, self.shop, tower, as_of)
        return Bundle(
            manifest=new_manifest(int(self.log.time.min()), as_of),
            item_ids=self.shop.item_ids,
            catalog=self.shop.catalog,
            categories=self.shop.categories,
            shopper_keys=fitted.shopper_keys,
            items=fitted.items,
            tower=fitted.tower,
            retrieval=fitted.retrieval,
            users=fitted.users,
            ranker=ranker,
        )

    def judge(self, bundle: Bundle) -> tuple[dict[str, Scores], Verdict]:
        """Scores of the recommender, without the session, of the baselines and of the champion, on one replay."""
        requests = self._replay(self.split.test, self.split.end)
        known = bundle.items.first_seen[requests.target] >= 0
        requests = requests.take(np.flatnonzero(known)).sample(
            self.config.test_requests, self.config.ranker.seed
        )
        ranked = ranked_slates(Recommender(bundle, self.settings.candidates))
        scores = {
            name: evaluate(requests, bundle, method, name) for name, method in baselines(bundle).items()
        }
        scores["ranked without session"] = evaluate(requests.without_windows(), bundle, ranked, "no session")
        scores[RANKED] = evaluate(requests, bundle, ranked, "ranked")
        champion = champion_for(self.settings.models_dir, self.split.test)
        if champion is None:
            return scores, Verdict(scores[RANKED].ndcg_at_10, None, None)
        slates = ranked_slates(Recommender(champion, self.settings.candidates))
        scores["champion"] = evaluate(requests, champion, slates, "champion")
        champion_score = scores["champion"].ndcg_at_10
        return scores, Verdict(scores[RANKED].ndcg_at_10, champion_score, champion.manifest.version)

    def _replay(self, start: int, end: int) -> Replay:
        ttl = int(self.settings.window_ttl_days * DAY)
        return replay(self.log, start, end, self.settings.window_size, ttl).with_window()

    def _folder(self, until: int) -> Path:
        return (
            self.settings.runs_dir
            / self.fingerprint
            / datetime.fromtimestamp(until / 1e6, UTC).strftime("%Y%m%dT%H%M%S")
        )


@contextmanager
def _step(name: str) -> Iterator[None]:
    started = time.perf_counter()
    logger.info("%s ...", name)
    yield
    logger.info("%s took %.1f s", name, time.perf_counter() - started)
