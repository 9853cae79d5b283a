"""A request as the served log has it, found by its id."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import pyarrow.parquet as pq

from feature_repo.errors import GoneError, InputError
from serving.in_time.attempt import Rung
from serving.served.date_folder import folder_of
from serving.served.folder_swap import places
from serving.served.question_text import from_text
from serving.served.served_log import ITEMS, REQUESTS, Served
from serving.served.served_slate import ServedRequest


class LoggedItem(NamedTuple):
    """One item of a slate; ``position`` counts from 1."""

    item_id: str
    position: int
    score: float
    sources: list[str]


_ITEM_COLUMNS: Final = [Served.ITEM, Served.POSITION, Served.SCORE, Served.SOURCES]
"""Those of a LoggedItem, in its order."""


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
            LoggedItem(*(row[name] for name in _ITEM_COLUMNS))
            for row in items
            if row[Served.POSITION] is not None
        ]
        request[Served.RANKED_BY] = Rung(request[Served.RANKED_BY])
        return cls(question=question, items=sorted(shown, key=lambda item: item.position), **request)


def find_request(served: Path, request_id: str, as_of: int) -> LoggedRequest | None:
    """The request of this id and moment (microseconds) in a served log; None where it is not. Raises GoneError."""
    rows = _rows(served / REQUESTS / folder_of(as_of), request_id, as_of)
    if not rows:
        return None
    items = _rows(served / ITEMS / folder_of(as_of), request_id, as_of, _ITEM_COLUMNS)
    return LoggedRequest.of_rows(rows[0], items)


def _rows(
    day: Path, request_id: str, as_of: int, columns: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Rows of a request in the folder of its day; of the files only what may hold them is read."""
    of_request = [(Served.REQUEST, "=", request_id)]
    for folder in places(day):
        # What has vanished is merged, or the end of its time was faster.
        with suppress(FileNotFoundError):
            for path in folder.glob("[!.]*.parquet"):
                first, last, *_ = path.name.split("-")
                if int(first) <= as_of <= int(last):
                    found = pq.read_table(path, columns=columns, filters=of_request, partitioning=None)
                    if found.num_rows:
                        return found.to_pylist()
    return []
