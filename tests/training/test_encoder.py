"""The session encoder finds known groups, serves what was trained, and training is repeatable and resumable."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from feature_repo.arrays import Float32
from feature_repo.encoded_log import EncodedLog
from feature_repo.schema import MINUTE, SECOND
from feature_repo.session_features import IS_INTERACTION, Window, moments_back
from feature_repo.user_tower import UserTower
from serving.bundle_files import read_bundle, write_bundle
from serving.session_encoder import EncoderItems, SessionEncoder, log_age
from tests.tiny_bundle import log_probability, tiny_bundle, with_encoder
from tests.training.checker_board import GROUP, NEVER, checker_board
from tests.training.tiny_log import NOON
from training import sequence_training
from training.config import EmbeddingConfig, EncoderConfig, EncoderKind
from training.embeddings import fit_embeddings
from training.encoder import fit_encoder, read_encoder, refit_encoder, to_onnx
from training.encoder_model import NETWORKS, EncoderModel
from training.sequence_model import TrainingState
from training.sequences import Batch

KINDS: tuple[EncoderKind, ...] = get_args(EncoderKind)
HISTORY = 6
CONFIG = EncoderConfig(
    dimensions=8,
    history=HISTORY,
    epochs=3,
    patience=3,
    uniform_negatives=16,
    temperature=0.2,
    dropout=0.1,
)
ITEMS = 20


@pytest.fixture(scope="module")
def log() -> EncodedLog:
    return checker_board()


@pytest.fixture(scope="module")
def tower(log: EncodedLog, tmp_path_factory: pytest.TempPathFactory) -> UserTower:
    config = EmbeddingConfig(dimensions=8, history=5, epochs=2, uniform_negatives=16, temperature=0.2)
    return fit_embeddings(log, config, tmp_path_factory.mktemp("tower")).tower


@pytest.fixture(scope="module")
def fitted(log: EncodedLog, tower: UserTower, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File of the weights of an encoder trained without interruption."""
    folder = tmp_path_factory.mktemp("encoder")
    fit_encoder(log, CONFIG, tower, folder / "run", folder / "encoder.pt")
    return folder / "encoder.pt"


def state_of(weights: Path) -> dict[str, torch.Tensor]:
    return torch.load(weights, weights_only=True)


def same(one: Path, other: Path) -> bool:
    first, second = state_of(one), state_of(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def random_model(kind: EncoderKind) -> EncoderModel:
    """A model that reads every input and every parameter of which matters."""
    torch.manual_seed(3)
    model = EncoderModel(ITEMS, replace(CONFIG, kind=kind)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def random_window(length: int, seed: int = 0) -> Window:
    """Interactions of all types, some of one moment."""
    random = np.random.default_rng([seed, length])
    return Window(
        random.integers(0, ITEMS, length).astype(np.int32),
        random.choice(np.flatnonzero(IS_INTERACTION), length).astype(np.int8),
        NOON + np.cumsum(random.integers(0, 3, length)) * MINUTE,
    )


def batch_of(window: Window, as_of: int, length: int) -> Batch:
    """The newest part of a window as a batch of one that is ``length`` wide."""
    count = min(window.items.size, HISTORY)
    newest_first = slice(None, -count - 1, -1)

    def padded(values: Any, kind: type[np.generic]) -> torch.Tensor:
        row = np.zeros((1, length), kind)
        row[0, :count] = values[newest_first]
        return torch.from_numpy(row)

    return Batch(
        items=padded(window.items, np.int64),
        types=padded(window.types, np.int64),
        steps=padded(moments_back(window), np.int64),
        ages=padded(log_age(as_of - window.times), np.float32),
        present=torch.from_numpy(np.arange(length)[None] < count),
        target=torch.zeros(1, dtype=torch.int64),
    )


def torch_query(model: EncoderModel, window: Window, as_of: int, length: int | None = None) -> Float32:
    """The answer of the trained network to a window, in a batch that is ``length`` wide or just wide enough."""
    batch = batch_of(window, as_of, length or min(window.items.size, HISTORY))
    with torch.no_grad():
        return model.query(model.vectors[batch.items], batch)[0].numpy()


def served(model: EncoderModel) -> SessionEncoder:
    """The model as the server runs it."""
    weight = model.vectors.norm(dim=1)
    items = EncoderItems(
        (model.vectors / weight[:, None]).numpy(),
        weight.numpy(),
        np.array([1 / CONFIG.temperature], np.float32),
        np.array([HISTORY], np.int32),
    )
    return SessionEncoder(items, to_onnx(model))


@pytest.fixture(scope="module", params=KINDS)
def pair(request: pytest.FixtureRequest) -> tuple[EncoderModel, SessionEncoder]:
    """A network of each kind in torch, and as it serves."""
    model = random_model(request.param)
    return model, served(model)


def test_every_kind_has_a_network() -> None:
    assert set(NETWORKS) == set(KINDS)


@pytest.mark.parametrize("length", range(1, HISTORY + 1))
def test_onnx_answers_like_torch(pair: tuple[EncoderModel, SessionEncoder], length: int) -> None:
    model, encoder = pair
    for seed in range(5):
        window = random_window(length, seed)
        as_of = int(window.times[-1]) + seed * 100 * SECOND
        np.testing.assert_allclose(encoder.query(window, as_of), torch_query(model, window, as_of), atol=1e-5)


def test_a_window_longer_than_its_history_is_answered_like_its_newest_part(
    pair: tuple[EncoderModel, SessionEncoder],
) -> None:
    model, encoder = pair
    window = random_window(HISTORY + 5)
    as_of = int(window.times[-1]) + MINUTE
    whole = encoder.query(window, as_of)
    np.testing.assert_array_equal(whole, encoder.query(window.take(slice(-HISTORY, None)), as_of))
    np.testing.assert_allclose(whole, torch_query(model, window, as_of), atol=1e-5)


def test_answers_are_of_length_one_and_probabilities_sum_to_one(
    pair: tuple[EncoderModel, SessionEncoder],
) -> None:
    _, encoder = pair
    for length in (1, HISTORY, HISTORY + 3):
        window = random_window(length)
        as_of = int(window.times[-1])
        assert np.linalg.norm(encoder.query(window, as_of)) == pytest.approx(1, rel=1e-5)
        assert np.exp(log_probability(encoder, window, as_of)).sum() == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [1, 2, HISTORY - 1])
def test_an_answer_does_not_depend_on_how_long_other_windows_of_the_batch_are(
    kind: EncoderKind, length: int
) -> None:
    model = random_model(kind)
    window = random_window(length)
    as_of = int(window.times[-1])
    alone, padded = (torch_query(model, window, as_of, wide) for wide in (length, HISTORY))
    np.testing.assert_allclose(padded, alone, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_input_of_a_network_counts(kind: EncoderKind) -> None:
    """Ages count for attention alone; the place of an event counts for all."""
    model = random_model(kind)
    window = random_window(HISTORY, seed=1)
    as_of = int(window.times[-1])
    answer = torch_query(model, window, as_of)
    others = np.roll(np.flatnonzero(IS_INTERACTION), 1)[
        np.searchsorted(np.flatnonzero(IS_INTERACTION), window.types)
    ]
    changed = {
        "items": replace(window, items=(window.items + 1) % ITEMS),
        "types": replace(window, types=others.astype(np.int8)),
        "order": Window(window.items[::-1].copy(), window.types[::-1].copy(), window.times),
    }
    for name, other in changed.items():
        assert not np.allclose(torch_query(model, other, as_of), answer, atol=1e-4), name


def test_the_items_of_a_shoppers_group_are_the_likeliest(
    log: EncodedLog, tower: UserTower, tmp_path: Path
) -> None:
    withheld = np.append(np.diff(log.shopper) > 0, True)  # the last of each shopper
    known = log.select(~withheld)
    config = replace(CONFIG, epochs=20, held_out=0)
    fit_encoder(known, config, tower, tmp_path / "run", tmp_path / "encoder.pt")
    encoder = read_encoder(known, config, tmp_path / "encoder.pt")
    group = np.array([-1 if name == NEVER else int(name[1:]) % 2 for name in log.item_ids])
    for shopper, target in enumerate(log.item[withheld]):
        window = known.window(*known.offsets()[shopper : shopper + 2])
        found = log_probability(encoder, window, int(window.times[-1]))
        assert group[target] == shopper % 2
        assert set(group[np.argsort(-found)[:GROUP]]) == {shopper % 2}
        assert found.argmin() == np.flatnonzero(log.item_ids == NEVER)[0]


def test_an_item_that_nobody_met_is_not_known_to_the_encoder(log: EncodedLog, fitted: Path) -> None:
    items = read_encoder(log, CONFIG, fitted).items
    never = log.item_ids == NEVER
    assert (items.embeddings[never] == 0).all()
    assert (items.item_weight[never] == 0).all()
    assert np.linalg.norm(items.embeddings[~never], axis=1) == pytest.approx(1, rel=1e-5)
    assert items.scale.tolist() == pytest.approx([1 / CONFIG.temperature])
    assert items.history.tolist() == [HISTORY]


def test_an_encoder_reads_the_same_from_a_bundle(log: EncodedLog, fitted: Path, tmp_path: Path) -> None:
    encoder = read_encoder(log, CONFIG, fitted)
    write_bundle(with_encoder(tiny_bundle(), encoder), tmp_path / "v1")
    read = read_bundle(tmp_path / "v1").encoder
    assert read is not None
    window = log.window(0, 5)
    as_of = int(window.times[-1])
    np.testing.assert_array_equal(
        log_probability(read, window, as_of), log_probability(encoder, window, as_of)
    )


def test_the_same_weights_are_exported_as_the_same_network(log: EncodedLog, fitted: Path) -> None:
    one, other = (read_encoder(log, CONFIG, fitted) for _ in range(2))
    assert one.network == other.network


def test_training_begins_with_the_embeddings(log: EncodedLog, tower: UserTower, tmp_path: Path) -> None:
    still = replace(CONFIG, epochs=1, embedding_learning_rate=0.0)
    fit_encoder(log, still, tower, tmp_path / "run", tmp_path / "encoder.pt")
    vectors = state_of(tmp_path / "encoder.pt")["vectors"].numpy()
    met = log.item_ids != NEVER
    expected = tower.embeddings * tower.item_weight[:, None]
    np.testing.assert_allclose(vectors[met], expected[met], rtol=1e-5)


def test_the_same_seed_gives_the_same_encoder_and_another_gives_another(
    log: EncodedLog, tower: UserTower, fitted: Path, tmp_path: Path
) -> None:
    fit_encoder(log, CONFIG, tower, tmp_path / "same", tmp_path / "same.pt")
    assert same(fitted, tmp_path / "same.pt")
    fit_encoder(log, replace(CONFIG, seed=21), tower, tmp_path / "other", tmp_path / "other.pt")
    assert not same(fitted, tmp_path / "other.pt")


def test_a_training_that_was_interrupted_ends_like_one_that_was_not(
    log: EncodedLog, tower: UserTower, fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = TrainingState.update

    def interrupted(state: TrainingState, *arguments: torch.Tensor) -> None:
        if state.epoch == 1 and state.step % 3 == 2:  # in the middle of the second epoch
            raise KeyboardInterrupt
        update(state, *arguments)

    weights = tmp_path / "encoder.pt"
    with monkeypatch.context() as patch:
        patch.setattr(TrainingState, "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit_encoder(log, CONFIG, tower, tmp_path / "run", weights)
    assert not weights.exists()

    trained: list[int] = []
    train_epoch = sequence_training._train_epoch

    def noted(state: TrainingState, *arguments: Any) -> float:
        trained.append(state.epoch)
        return train_epoch(state, *arguments)

    monkeypatch.setattr(sequence_training, "_train_epoch", noted)
    fit_encoder(log, CONFIG, tower, tmp_path / "run", weights)
    assert same(fitted, weights)
    assert trained[0] == 1
    assert not list((tmp_path / "run").glob("*.pt"))


def test_a_refit_goes_on_from_the_weights_and_can_be_interrupted_too(
    log: EncodedLog, fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, embedding_learning_rate=1e-6, learning_rate=1e-6)
    refit_encoder(log, config, fitted, tmp_path / "whole", tmp_path / "whole.pt")
    before, after = state_of(fitted), state_of(tmp_path / "whole.pt")
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=1e-3)
    assert not same(fitted, tmp_path / "whole.pt")
    save = TrainingState.save

    def interrupted(state: TrainingState, path: Path) -> None:
        save(state, path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingState, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            refit_encoder(log, config, fitted, tmp_path / "parts", tmp_path / "parts.pt")
    refit_encoder(log, config, fitted, tmp_path / "parts", tmp_path / "parts.pt")
    assert same(tmp_path / "whole.pt", tmp_path / "parts.pt")


def test_scalars_are_written_for_tensorboard(log: EncodedLog, tower: UserTower, tmp_path: Path) -> None:
    learned = fit_encoder(log, CONFIG, tower, tmp_path / "run", tmp_path / "encoder.pt")
    written = EventAccumulator(str(tmp_path / "run")).Reload()
    recalls = [event.value for event in written.Scalars("encoder/recall_at_20")]
    assert len(written.Scalars("encoder/loss")) == len(recalls)
    assert max(recalls) == pytest.approx(learned.recall)
    assert recalls[learned.epochs - 1] == pytest.approx(learned.recall)


def test_an_export_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    to_onnx(random_model("mlp"))
    assert capfd.readouterr() == ("", "")
