"""Questions as text: every field of a question and of what it holds, whichever there are, and back again."""

from typing import Any, Final, get_args, get_origin

import msgspec
import numpy as np

from feature_repo.errors import InputError
from serving.query import Question


def to_text(question: Question) -> str:
    """JSON. Arrays are lists, in which null stands for NaN; numbers come back as they were."""
    return _ENCODER.encode(question).decode()


def from_text(text: str) -> Question:
    """The question of what ``to_text`` wrote; fields that were not known then have their defaults.

    Raises InputError for what does not fit.
    """
    try:
        return _DECODER.decode(text)
    except msgspec.MsgspecError as error:
        raise InputError(f"a question was logged as this release cannot read it: {error}") from None


def _to_list(value: object) -> list[Any]:
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise NotImplementedError(f"a question cannot be logged with a {type(value).__name__} in it")


def _to_array(kind: Any, value: list[Any]) -> np.ndarray:
    if get_origin(kind) is not np.ndarray:
        raise NotImplementedError(f"a question cannot be read with a {kind} in it")
    _, dtype = get_args(kind)
    return np.array(value, *get_args(dtype))


_ENCODER: Final = msgspec.json.Encoder(enc_hook=_to_list)
_DECODER: Final = msgspec.json.Decoder(Question, dec_hook=_to_array)
