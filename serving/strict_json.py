"""Reading JSON that a stranger sent: only what has one meaning, within bounds."""

import json
from typing import Final

from feature_repo.errors import InputError

MAX_KEYS: Final = 100
"""Keys that one object may have; more could only be unknown fields, each of which costs time to refuse."""


def parse(body: bytes) -> object:
    """Value of a JSON text in UTF-8.

    NaN and Infinity pass: the schema refuses them and names the field. Raises InputError, which never
    repeats what was sent, for anything else that is not JSON, for a key given twice and for deep nesting.
    """
    try:
        return json.loads(body.decode(), object_pairs_hook=_distinct)
    except RecursionError:
        raise InputError("the body is nested too deep") from None
    except ValueError as error:
        raise InputError(f"the body is not JSON: {error}") from None


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(pairs) > MAX_KEYS:
        raise InputError(f"an object in the body has more than {MAX_KEYS} keys")
    value = dict(pairs)
    if len(value) < len(pairs):
        raise InputError("an object in the body has the same key twice")
    return value
