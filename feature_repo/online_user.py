"""A user's row in Feast's Redis, read without Feast: its key, its hash fields and its values.

Feast keeps one hash per entity: https://docs.feast.dev/reference/online-stores/redis and its
online_store_format page. A value is a protobuf ``feast.types.Value``, of which three kinds occur here; reading
those by hand takes microseconds and spares the server an import of seconds.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import mmh3
import numpy as np

from feature_repo.arrays import Float32
from feature_repo.batch_features import USER_STATISTICS
from feature_repo.offline_store import SHOPPER_KEY, USER_EMBEDDING, USER_EMBEDDING_VERSION, View

PROJECT: Final = "freshet"
"""Name of the Feast project, which ends every key."""


@dataclass(frozen=True, slots=True)
class OnlineUser:
    """What was last materialized of a shopper; None for what never was.

    statistics float32[len(USER_STATISTICS)], NaN where a value is missing; embedding float32[d], which fits
    only the model ``model_version``; computed_at: the moment as of which all of it holds, in microseconds.
    """

    statistics: Float32 | None
    embedding: Float32 | None
    model_version: str | None
    computed_at: int


def _field(view: str, feature: str) -> bytes:
    return struct.pack("<I", mmh3.hash(f"{view}:{feature}", signed=False))


def stamp_field(view: str) -> bytes:
    """The hash field that holds the moment as of which a view's values hold."""
    return f"_ts:{view}".encode()


USER_FIELDS: Final = [
    *(_field(View.USER_STATISTICS, name) for name in USER_STATISTICS),
    _field(View.USER_EMBEDDING, USER_EMBEDDING),
    _field(View.USER_EMBEDDING, USER_EMBEDDING_VERSION),
    stamp_field(View.USER_STATISTICS),
    stamp_field(View.USER_EMBEDDING),
]
"""Fields to ask the hash of ``user_key`` for (HMGET), in the order that decode_user takes their values."""

_STRING: Final = 2
"""feast.types.ValueType.STRING."""
_NAME: Final = SHOPPER_KEY.encode()
_KEY_HEAD: Final = struct.pack("<III", 1, _STRING, len(_NAME)) + _NAME + struct.pack("<I", _STRING)
_KEY_TAIL: Final = PROJECT.encode()


def user_key(shopper_key: str) -> bytes:
    """Redis key of a shopper's hash (entity key serialization version 3)."""
    name = shopper_key.encode()
    return b"".join([_KEY_HEAD, struct.pack("<I", len(name)), name, _KEY_TAIL])


_FLOAT: Final = np.dtype([("tag", "u1"), ("value", "<f4")])
"""A Value that holds a float: the tag of field 6, then four bytes."""
_MISSING: Final = struct.pack("<Bf", 6 << 3 | 5, float("nan"))


def decode_user(values: Sequence[bytes | None]) -> OnlineUser | None:
    """The shopper whose hash has these values of USER_FIELDS; None where nothing was ever materialized."""
    *statistics, embedding, version, statistics_stamp, embedding_stamp = values
    stamps = [microseconds(stamp) for stamp in (statistics_stamp, embedding_stamp) if stamp]
    if not stamps:
        return None
    return OnlineUser(
        statistics=_floats(statistics) if statistics_stamp else None,
        embedding=_float_list(embedding) if embedding else None,
        model_version=_string(version) if version else None,
        computed_at=min(stamps),
    )


def _floats(values: Iterable[bytes | None]) -> Float32:
    return np.frombuffer(b"".join([value or _MISSING for value in values]), _FLOAT)["value"].copy()


def _float_list(value: bytes) -> Float32:
    """Field 16 of a Value: a message whose field 1 is the packed floats."""
    _, inside = _varint(value, 2)
    _, start = _varint(value, inside + 1)
    return np.frombuffer(value, "<f4", offset=start)


def _string(value: bytes) -> str:
    """Field 2 of a Value."""
    _, start = _varint(value, 1)
    return value[start:].decode()


def microseconds(stamp: bytes) -> int:
    """A protobuf Timestamp: seconds in field 1, nanoseconds in field 2, each left out where it is zero."""
    numbers = {1: 0, 2: 0}
    at = 0
    while at < len(stamp):
        field = stamp[at] >> 3
        numbers[field], at = _varint(stamp, at + 1)
    return numbers[1] * 1_000_000 + numbers[2] // 1000


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A base-128 number that begins at ``at``, and where it ends."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
