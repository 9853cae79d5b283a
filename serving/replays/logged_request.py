"""A request as the served log has it, found by its id."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import pyarrow.parquet as pq

from feature_repo.errors import GoneError, InputError
from serving.in_time.attempt import Rung
from serving.served.date_folder import folder_of
from serving.served.question_text import from_text
from serving.served.served_log import ITEMS, REQUESTS, Served
from serving.served.served_slate import ServedRequest


class LoggedItem(NamedTuple):
    """One item of a slate; ``position`` counts from 1."""

    item_id: str
    position: int
    score: float
    sources: list[str]


@dataclass(frozen=True, kw_only=True)
class LoggedRequest(ServedRequest):
    """One answered request, as it was written down. ``items``: the slate, in its order."""

    items: Sequence[LoggedItem]

    @classmethod
    def of_rows(cls, request: dict[str, Any], items: list[dict[str, Any]]) -> Self:
        """Of a row of SERVED_REQUESTS and its rows of SERVED_ITEMS. Raises GoneError for those of old releases."""
        try:
            question = from_text(request.pop(Served.QUESTION))
        except InputError as error:
            raise GoneError(f"the request cannot be read any more: {error}") from None
        del request[Served.AS_OF]  # the question has it
        shown = [
            LoggedItem(*(row[name] for name in (Served.ITEM, Served.POSITION, Served.SCORE, Served.SOURCES)))
            for row in items
            if row[Served.POSITION] is not None
        ]
        request[Served.RANKED_BY] = Rung(request[Served.RANKED_BY])
        return cls(question=question, items=sorted(shown, key=lambda item: item.position), **request)


def find_request(served: Path, request_id: str, as_of: int) -> LoggedRequest | None:
    """The request of this id and moment (microseconds) in a served log; None where it is not. Raises GoneError."""
    for path in (served / REQUESTS / folder_of(as_of)).glob("[!.]*.parquet"):
        first, last, *_ = path.name.split("-")
        if int(first) <= as_of <= int(last):
            rows = _rows(path, request_id)
            if rows:
                return LoggedRequest.of_rows(
                    rows[0], _rows(served / ITEMS / path.parent.name / path.name, request_id)
                )
    return None


def _rows(path: Path, request_id: str) -> list[dict[str, Any]]:
    try:
        table = pq.ParquetFile(path).read()
    except FileNotFoundError:
        return []  # an erasure, or the end of its time, was faster
    return table.filter(pq.filters_to_expression([(Served.REQUEST, "=", request_id)])).to_pylist()
