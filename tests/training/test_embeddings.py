"""The embeddings find known groups, and training is repeatable, resumable and stops in time."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from feature_repo.encoded_log import EncodedLog
from feature_repo.errors import InputError
from feature_repo.user_tower import UserTower
from tests.training.checker_board import NEVER, checker_board
from tests.training.tiny_log import Happened, encoded
from training import sequence_training
from training.config import EmbeddingConfig
from training.embeddings import fit_embeddings, refit_embeddings
from training.sequence_model import TrainingState

CONFIG = EmbeddingConfig(dimensions=8, history=5, epochs=4, patience=4, uniform_negatives=16, temperature=0.2)


def same(one: UserTower, other: UserTower) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("embeddings", "item_weight", "recency", "event_type")
    )


@pytest.fixture(scope="module")
def log() -> EncodedLog:
    return checker_board()


@pytest.fixture(scope="module")
def tower(log: EncodedLog, tmp_path_factory: pytest.TempPathFactory) -> UserTower:
    return fit_embeddings(log, CONFIG, tmp_path_factory.mktemp("run")).tower


def test_a_withheld_item_of_the_shoppers_own_group_comes_before_all_of_the_other(
    log: EncodedLog, tmp_path: Path
) -> None:
    withheld = np.append(np.diff(log.shopper) > 0, True)  # the last of each shopper
    known = log.select(~withheld)
    config = replace(CONFIG, epochs=30, held_out=0)
    tower = fit_embeddings(known, config, tmp_path).tower
    group = np.array([-1 if name == NEVER else int(name[1:]) % 2 for name in log.item_ids])
    for shopper, target in enumerate(log.item[withheld]):
        window = known.window(*known.offsets()[shopper : shopper + 2])
        scores = tower.embeddings @ tower.session_vector(window)
        others = scores[group == 1 - shopper % 2]
        assert scores[target] > others.max()


def test_vectors_have_length_one_and_those_of_unseen_items_are_zero(
    log: EncodedLog, tower: UserTower
) -> None:
    lengths = np.linalg.norm(tower.embeddings, axis=1)
    never = log.item_ids == NEVER
    assert (tower.embeddings[never] == 0).all()
    assert (tower.item_weight[never] == 0).all()
    assert lengths[~never] == pytest.approx(1, rel=1e-5)


def test_the_same_seed_gives_the_same_vectors_and_another_gives_others(
    log: EncodedLog, tower: UserTower, tmp_path: Path
) -> None:
    assert same(tower, fit_embeddings(log, CONFIG, tmp_path / "same").tower)
    assert not same(tower, fit_embeddings(log, replace(CONFIG, seed=21), tmp_path / "other").tower)


@pytest.mark.parametrize("finished_epochs", [1, 3])
def test_a_training_that_was_interrupted_ends_like_one_that_was_not(
    log: EncodedLog,
    tower: UserTower,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    finished_epochs: int,
) -> None:
    update = TrainingState.update

    def interrupted(state: TrainingState, *arguments: torch.Tensor) -> None:
        if state.epoch == finished_epochs and state.step % 3 == 2:  # in the middle of the epoch after it
            raise KeyboardInterrupt
        update(state, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingState, "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit_embeddings(log, CONFIG, tmp_path)

    trained: list[int] = []
    train_epoch = sequence_training._train_epoch

    def noted(state: TrainingState, *arguments: Any) -> float:
        trained.append(state.epoch)
        return train_epoch(state, *arguments)

    monkeypatch.setattr(sequence_training, "_train_epoch", noted)
    assert same(tower, fit_embeddings(log, CONFIG, tmp_path).tower)
    assert trained[0] == finished_epochs
    assert not list(tmp_path.glob("*.pt"))


def test_a_refit_goes_on_from_what_was_learned_and_can_be_interrupted_too(
    log: EncodedLog, tower: UserTower, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, embedding_learning_rate=1e-6, learning_rate=1e-6)
    refitted = refit_embeddings(log, config, tower, tmp_path / "whole").tower
    assert refitted.embeddings == pytest.approx(tower.embeddings, abs=1e-3)
    assert not same(refitted, tower)
    save = TrainingState.save

    def interrupted(state: TrainingState, path: Path) -> None:
        save(state, path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingState, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            refit_embeddings(log, config, tower, tmp_path / "parts")
    assert same(refitted, refit_embeddings(log, config, tower, tmp_path / "parts").tower)


def test_an_epoch_learns_from_no_more_examples_than_configured(
    log: EncodedLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[int] = []
    update = TrainingState.update

    def counted(state: TrainingState, loss: Any, rows: Any, vectors: Any) -> None:
        learned.append(state.step)
        update(state, loss, rows, vectors)

    monkeypatch.setattr(TrainingState, "update", counted)
    fit_embeddings(log, replace(CONFIG, epochs=3, patience=3, examples=200), tmp_path)
    assert len(learned) == 3 * 2  # of 128 examples each, the smallest batch, and the rest


def test_training_stops_when_the_held_out_part_gets_no_better(
    log: EncodedLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recalls = iter([0.1, 0.5, 0.4, 0.3, 0.9, 0.9])
    monkeypatch.setattr(sequence_training, "_recall", lambda *_: next(recalls))
    fitted = fit_embeddings(log, replace(CONFIG, epochs=6, patience=2), tmp_path)
    assert (fitted.epochs, fitted.recall) == (2, 0.5)
    assert next(recalls) == 0.9  # four epochs were trained


def test_the_embeddings_of_the_best_epoch_are_kept(
    log: EncodedLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors: list[torch.Tensor] = []
    recalls = iter([0.5, 0.4, 0.3, 0.2])

    def recall(model: torch.nn.Module, *_: object) -> float:
        vectors.append(model.state_dict()["vectors"].clone())
        return next(recalls)

    monkeypatch.setattr(sequence_training, "_recall", recall)
    fitted = fit_embeddings(log, CONFIG, tmp_path)
    best = fitted.tower.embeddings * fitted.tower.item_weight[:, None]
    met = log.item_ids != NEVER
    assert best[met] == pytest.approx(vectors[0].numpy()[met], abs=1e-5)


def test_scalars_are_written_for_tensorboard(log: EncodedLog, tmp_path: Path) -> None:
    fitted = fit_embeddings(log, CONFIG, tmp_path / "run")
    written = EventAccumulator(str(tmp_path / "run")).Reload()
    losses = [event.value for event in written.Scalars("embeddings/loss")]
    recalls = [event.value for event in written.Scalars("embeddings/recall_at_20")]
    assert losses[-1] < losses[0]
    assert max(recalls) == pytest.approx(fitted.recall)
    assert recalls[fitted.epochs - 1] == pytest.approx(fitted.recall)


def test_a_shop_of_fewer_items_than_the_cutoff_can_be_trained(tmp_path: Path) -> None:
    log = encoded([Happened(f"s{n % 9}", f"i{n % 4}", n) for n in range(200)])
    fitted = fit_embeddings(log, replace(CONFIG, epochs=1), tmp_path)
    assert fitted.recall == 1.0  # all other items fit on the slate


def test_a_log_in_which_nobody_meets_two_items_says_what_to_check(tmp_path: Path) -> None:
    log = encoded([Happened(f"s{n}", f"i{n % 4}", n) for n in range(50)])
    with pytest.raises(InputError, match=r"met two different items.*check that user_id or visitor_id"):
        fit_embeddings(log, CONFIG, tmp_path)
