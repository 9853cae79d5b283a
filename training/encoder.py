"""The session encoder is trained, and exported to ONNX for the server."""

import io
import logging
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from feature_repo.durable_file import replace_file
from feature_repo.encoded_log import EncodedLog
from feature_repo.user_tower import UserTower
from serving.session_encoder import AGES, QUERY, STEPS, TYPES, VALUES, EncoderItems, SessionEncoder
from training.config import EncoderConfig
from training.encoder_model import EncoderModel, WholeWindow
from training.sequence_training import Learned, hold_out, learn
from training.sequences import Sequences

NAME = "encoder"
"""Of its scalars and checkpoints."""
_EXAMPLE_LENGTH = 3


def fit_encoder(
    log: EncodedLog, config: EncoderConfig, tower: UserTower, run: Path, weights: Path
) -> Learned:
    """Train from the embeddings of ``tower``, early stopping by Recall@20 on the newest part, which is held out.

    The trained network goes to ``weights``, for ``read_encoder`` to read and ``refit_encoder`` to go on from.
    """
    torch.manual_seed(config.seed)
    model = EncoderModel(len(log.item_ids), config)
    model.start_from(tower.embeddings, tower.item_weight)
    learned = learn(model, *hold_out(Sequences.of(log.interactions()), config.held_out), run, NAME)
    _keep(model, weights)
    return learned


def refit_encoder(log: EncodedLog, config: EncoderConfig, start: Path, run: Path, weights: Path) -> None:
    """Go on from the weights at ``start`` on all of ``log``, for ``refit_epochs`` or fewer; nothing is held out."""
    sequences = Sequences.of(log.interactions())
    torch.manual_seed(config.seed)
    model = _read(log, replace(config, epochs=min(config.refit_epochs, config.epochs)), start)
    learn(model, sequences, sequences.take(sequences.targets[:0]), run, NAME)
    _keep(model, weights)


def read_encoder(log: EncodedLog, config: EncoderConfig, weights: Path) -> SessionEncoder:
    """The encoder as it serves, from weights that were learned on ``log``: it knows the items of this log alone."""
    model = _read(log, config, weights).eval()
    seen = np.bincount(log.interactions().item, minlength=len(model.vectors)) > 0
    raw = model.vectors * torch.from_numpy(seen)[:, None]
    return SessionEncoder(
        EncoderItems(
            embeddings=functional.normalize(raw, dim=1).numpy(),
            item_weight=raw.norm(dim=1).numpy(),
            scale=np.array([1 / config.temperature], np.float32),
            history=np.array([config.history], np.int32),
        ),
        to_onnx(model),
    )


def _read(log: EncodedLog, config: EncoderConfig, weights: Path) -> EncoderModel:
    model = EncoderModel(len(log.item_ids), config)
    model.load_state_dict(torch.load(weights, weights_only=True, map_location="cpu"))
    return model


def _keep(model: EncoderModel, weights: Path) -> None:
    content = io.BytesIO()
    torch.save(model.cpu().state_dict(), content)
    replace_file(weights, content.getvalue())


def to_onnx(model: EncoderModel) -> bytes:
    """The network of a trained model, for windows of any length."""
    length = torch.export.Dim("length", min=1, max=model.config.history)
    example = (
        torch.zeros(1, _EXAMPLE_LENGTH, model.config.dimensions),
        torch.zeros(1, _EXAMPLE_LENGTH, dtype=torch.int64),
        torch.zeros(1, _EXAMPLE_LENGTH, dtype=torch.int64),
        torch.zeros(1, _EXAMPLE_LENGTH),
    )
    for chatty in ("onnxscript", "onnx_ir", "torch.onnx"):
        logging.getLogger(chatty).setLevel(logging.ERROR)  # they tell of every pass over the graph
    with warnings.catch_warnings(action="ignore"):
        program: Any = torch.onnx.export(
            WholeWindow(model.network).eval(),
            example,
            input_names=[VALUES, TYPES, STEPS, AGES],
            output_names=[QUERY],
            dynamic_shapes=tuple({1: length} for _ in example),
            dynamo=True,
            verbose=False,
        )
    return program.model_proto.SerializeToString()
