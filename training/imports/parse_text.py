"""Text columns become typed ones.

Each parser returns the values, null where missing or unusable, and a mask of the unusable.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.schema import (
    AFTER_LAST_TIME,
    DAY,
    ID_PATTERN,
    MAX_ID_LENGTH,
    MAX_QUERY_LENGTH,
    SECOND,
    Event,
    Item,
    User,
)

Mask = npt.NDArray[np.bool_]
Parsed = tuple[pa.Array, Mask]

_UNITS: Final = {"s": SECOND, "ms": SECOND // 1000, "us": 1}
_NUMBER: Final = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_DECIMAL_COMMA: Final = r"^[+-]?\d+,\d{1,2}$"
"""Three digits after the comma would rather be thousands."""
FIRST_PLAUSIBLE: Final = 10_957 * DAY
"""Start of the year 2000: events before it are more often counted in a wrong unit than that old."""
_TRUE: Final = pa.array(["true", "1", "yes"])
_FALSE: Final = pa.array(["false", "0", "no"])


def parse(field: pa.Field, text: pa.Array, unit: str | None) -> tuple[pa.Array, Mask, str]:
    """Values of a schema's field, the mask of those that cannot be used, and the reason for rejecting these."""
    if pa.types.is_timestamp(field.type):
        values, bad = parse_time(text, unit)
        reason = "unreadable, or before 1970"
    else:
        read, reason = _PARSERS.get(field.name, (_parse_text, "unusable"))
        values, bad = read(text)
    return values.cast(field.type), bad, f"bad {field.name} ({reason})"


def holds_numbers(field: pa.Field) -> bool:
    """Whether a schema's field is a number, which a file may write with a decimal comma."""
    return bool(pa.types.is_floating(field.type) or pa.types.is_integer(field.type))


def with_decimal_point(text: pa.Array, decimal: str) -> pa.Array:
    """Numbers whose decimal mark is ``decimal``, with a point.

    Where the mark is a comma, a point separates thousands or is a mistake: 1.250 is left unreadable, not
    taken for one and a quarter.
    """
    if decimal == ".":
        return text
    return pc.replace_substring(pc.replace_substring(text, ".", "'"), decimal, ".")


def parse_id(text: pa.Array) -> Parsed:
    """Ids as text; ``17850.0`` is the id 17850, and ``nan`` (a missing number) is missing."""
    ids = pc.replace_substring_regex(text, r"^(-?\d+)\.0+$", r"\1")
    ids = pc.if_else(pc.is_in(ids, value_set=pa.array(["nan", "NaN"])), None, ids)
    return ids, ~as_mask(pc.fill_null(pc.match_substring_regex(ids, ID_PATTERN), fill_value=True))


def parse_number(text: pa.Array, lowest: float = -np.inf) -> Parsed:
    """float64; unusable are text, NaN, infinities and what is below ``lowest``."""
    readable = pc.match_substring_regex(text, _NUMBER)
    numbers = pc.if_else(readable, text, None).cast(pa.float64())
    usable = pc.and_(pc.is_finite(numbers), pc.greater_equal(numbers, lowest))
    bad = as_mask(pc.is_valid(text)) & ~as_mask(usable)
    return pc.add(_without(numbers, bad), 0.0), bad  # adding zero makes -0.0 plain


def parse_time(text: pa.Array, unit: str | None) -> Parsed:
    """timestamp[us, UTC] of ISO text (UTC unless it names an offset), or of numbers of ``unit`` since 1970."""
    given = as_mask(pc.is_valid(text))
    numeric = as_mask(pc.match_substring_regex(text, _NUMBER))
    micros = np.full(len(text), -1, np.int64)
    if unit is not None:
        scaled = np.rint(text.filter(numeric).cast(pa.float64()).to_numpy() * _UNITS[unit])
        micros[numeric] = np.where((scaled >= 0) & (scaled < AFTER_LAST_TIME), scaled, -1).astype(np.int64)
    iso = given & ~numeric
    times = pd.to_datetime(text.filter(iso).to_pandas(), format="ISO8601", utc=True, errors="coerce")
    micros[iso] = np.where(times.isna(), -1, times.astype("datetime64[us, UTC]").astype(np.int64))
    usable = micros >= 0
    return pa.array(micros, pa.timestamp("us", "UTC"), mask=~usable), given & ~usable


def looks_numeric(text: pa.Array) -> bool:
    """Whether most values that are there are numbers."""
    return _mostly(text, _NUMBER)


def looks_like_decimal_commas(text: pa.Array) -> bool:
    """Whether most values that are there are numbers such as 12,50."""
    return _mostly(text, _DECIMAL_COMMA)


def as_mask(flags: pa.Array) -> Mask:
    """Boolean numpy mask of Arrow flags; a missing flag is false."""
    mask: Mask = pc.fill_null(flags, fill_value=False).to_numpy(zero_copy_only=False)
    return mask


def _mostly(text: pa.Array, pattern: str) -> bool:
    matching = as_mask(pc.match_substring_regex(text, pattern)).sum()
    return bool(2 * matching > len(text) - text.null_count)


def _parse_bool(text: pa.Array) -> Parsed:
    lower = pc.utf8_lower(text)
    true, false = pc.is_in(lower, value_set=_TRUE), pc.is_in(lower, value_set=_FALSE)
    known = pc.or_(true, false)
    return pc.if_else(known, true, None), as_mask(pc.is_valid(text)) & ~as_mask(known)


def _parse_text(text: pa.Array) -> Parsed:
    return text, np.zeros(len(text), np.bool_)


def _parse_query(text: pa.Array) -> Parsed:
    return text, as_mask(pc.greater(pc.utf8_length(text), MAX_QUERY_LENGTH))


def _parse_position(text: pa.Array) -> Parsed:
    numbers, bad = parse_number(text, lowest=0)
    usable = pc.and_(pc.equal(pc.floor(numbers), numbers), pc.less(numbers, 2**31))
    bad = as_mask(pc.is_valid(text)) & ~as_mask(usable)
    return _without(numbers, bad), bad


def _parse_each(text: pa.Array, read: Callable[[str], Any], kind: pa.DataType) -> Parsed:
    """Apply ``read``, which raises ValueError, to each distinct value."""
    encoded = text.dictionary_encode()
    values, bad = [], []
    for value in encoded.dictionary.to_pylist():
        try:
            values.append(read(value))
            bad.append(False)
        except (ValueError, TypeError):
            values.append(None)
            bad.append(True)
    unusable = pa.array(bad, pa.bool_()).take(encoded.indices)
    return pa.array(values, kind).take(encoded.indices), as_mask(unusable)


def _json_object(text: str) -> str:
    value = orjson.loads(text)
    if not isinstance(value, dict):
        raise TypeError(f"not an object: {value!r}")
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def _tags(text: str) -> list[str]:
    tags = orjson.loads(text) if text.startswith("[") else text.split("|")
    return [str(tag).strip() for tag in tags]


def _floats(text: str) -> list[float]:
    numbers = [float(number) for number in orjson.loads(text)]
    if not np.isfinite(numbers).all():
        raise ValueError("not finite")
    return numbers


def _without(values: pa.Array, bad: Mask) -> pa.Array:
    return pc.if_else(pa.array(bad), None, values)


_ID: Final = (parse_id, f"over {MAX_ID_LENGTH} characters, or with control characters")
_AMOUNT: Final = (partial(parse_number, lowest=0), "not a number, or negative")
_FLAG: Final = (_parse_bool, "neither true nor false")
_PARSERS: Final[dict[str, tuple[Callable[[pa.Array], Parsed], str]]] = {
    Event.ID: _ID,
    Event.USER: _ID,
    Event.VISITOR: _ID,
    Event.ITEM: _ID,
    Event.SESSION: _ID,
    Event.PLACEMENT: _ID,
    Event.REQUEST: _ID,
    Event.CAMPAIGN: _ID,
    Event.POSITION: (_parse_position, "not a whole number, or negative"),
    Event.QUERY: (_parse_query, f"over {MAX_QUERY_LENGTH} characters"),
    Event.QUANTITY: _AMOUNT,
    Event.PRICE: _AMOUNT,
    Event.VALUE: (parse_number, "not a number"),
    Event.PROPERTIES: (partial(_parse_each, read=_json_object, kind=pa.string()), "not a JSON object"),
    Item.AVAILABLE: _FLAG,
    Item.MARGIN: (parse_number, "not a number"),
    Item.TAGS: (partial(_parse_each, read=_tags, kind=pa.list_(pa.string())), "not a list"),
    Item.IMAGE_EMBEDDING: (
        partial(_parse_each, read=_floats, kind=pa.list_(pa.float32())),
        "not a JSON list of numbers",
    ),
    User.CONSENT: _FLAG,
}
"""Parser of each column that is neither a time nor free text, and what makes a value unusable. A column of
two tables means the same in both."""
