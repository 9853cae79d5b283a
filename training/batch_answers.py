"""Batch answers: slates for a file of windows, made by the very stages that answer a request."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.arrays import Strings
from feature_repo.durable_file import replace_file, to_parquet
from feature_repo.errors import InputError
from feature_repo.schema import EVENT_CODES, Event, EventType, shopper_key
from feature_repo.session_window import WindowEvent
from serving.query import Question
from serving.recommender import Recommender
from training.imports.parse_text import FIRST_PLAUSIBLE, as_mask, parse_id, parse_time
from training.imports.tabular_file import read_text_table
from training.parallel import in_threads
from training.replay import CHUNK

logger = logging.getLogger(__name__)

POSITION: Final = "position"
SCORE: Final = "score"
ANSWER_SCHEMA: Final = pa.schema(
    [
        pa.field(Event.REQUEST, pa.string(), nullable=False),
        pa.field(POSITION, pa.int32(), nullable=False),  # from 1
        pa.field(Event.ITEM, pa.string(), nullable=False),
        pa.field(SCORE, pa.float32(), nullable=False),
    ]
)


class _Row(NamedTuple):
    time: int
    event_id: str
    type: str
    item: str | None
    user: str | None
    visitor: str | None


@dataclass(frozen=True)
class BatchRequest:
    """A request_id of the file and the question it stands for."""

    request_id: str
    question: Question


def answer(recommender: Recommender, requests: Sequence[BatchRequest]) -> pa.Table:
    """A slate for every request, as ANSWER_SCHEMA rows; shows progress."""
    chunks = [requests[first : first + CHUNK] for first in range(0, len(requests), CHUNK)]
    answered = in_threads(partial(_answer_chunk, recommender), chunks, "recommend")
    return pa.concat_tables([ANSWER_SCHEMA.empty_table(), *answered])


def require_place(out: Path) -> None:
    """Raise InputError where no file can be written: better known before the work than after it."""
    if not out.parent.is_dir():
        raise InputError(f"{out.parent} is not a folder: make it, or write elsewhere with --out")
    if out.is_dir():
        raise InputError(f"{out} is a folder: name a file in it with --out")


def write_answers(answers: pa.Table, out: Path) -> None:
    """Write ANSWER_SCHEMA rows as Parquet, whole or not at all."""
    replace_file(out, to_parquet(answers))


def read_requests(path: Path, *, k: int, window_size: int, repeat_last: bool) -> list[BatchRequest]:
    """The requests of a file of event rows: the rows of one request_id are the shopper's window when asking.

    A request is asked at the time of its newest event, for the shopper that this event names, if it names one. An
    event without event_type is a view. Raises InputError that names the row that cannot be read.
    """
    text = read_text_table(path, delimiter=",", encoding="utf-8")
    for column in (Event.REQUEST, Event.ITEM, Event.TIMESTAMP):
        if column not in text.column_names:
            raise InputError(
                f"{path} has no column {column}, only {', '.join(text.column_names)}: each row is an event of a "
                f"window, with {Event.REQUEST}, {Event.ITEM} and {Event.TIMESTAMP}"
            )
    times, bad_times = parse_time(text[Event.TIMESTAMP].combine_chunks(), "us")
    if (early := pc.less(times.cast(pa.int64()), FIRST_PLAUSIBLE)).true_count:
        logger.warning(
            "%s: row %d lies before the year 2000; numbers in %s are read as microseconds since 1970",
            path,
            int(np.argmax(as_mask(early))) + 1,
            Event.TIMESTAMP,
        )
    types = _column(text, Event.TYPE).fill_null(EventType.VIEW)
    unknown_types = ~as_mask(pc.is_in(types, value_set=pa.array(EVENT_CODES, pa.string())))
    for bad, column in (
        (as_mask(pc.is_null(text[Event.REQUEST])), Event.REQUEST),
        (bad_times | as_mask(pc.is_null(times)), Event.TIMESTAMP),
        (unknown_types, Event.TYPE),
    ):
        if bad.any():
            raise InputError(
                f"{path}: row {int(np.argmax(bad)) + 1} has no usable {column}: mend or remove it"
            )
    frame = pd.DataFrame(
        {
            "time": times.cast(pa.int64()).to_numpy(),
            "event_id": _column(text, Event.ID).fill_null("").to_numpy(zero_copy_only=False),
            "type": types.to_numpy(zero_copy_only=False),
            "item": _ids(text, Event.ITEM),
            "user": _ids(text, Event.USER),
            "visitor": _ids(text, Event.VISITOR),
        }
    )
    requests, request_ids = pd.factorize(text[Event.REQUEST].to_pandas())
    order = np.lexsort((pd.factorize(frame["event_id"], sort=True)[0], frame["time"], requests))
    rows = [_Row(*values) for values in frame.iloc[order].itertuples(index=False)]
    ends = np.append(np.flatnonzero(np.diff(requests[order])) + 1, len(rows)).tolist()
    starts = [0, *ends[:-1]]
    return [
        BatchRequest(
            request_id, _question(rows[start:end], k=k, window_size=window_size, repeat_last=repeat_last)
        )
        for request_id, start, end in zip(request_ids, starts, ends, strict=True)
    ]


def _question(rows: list[_Row], *, k: int, window_size: int, repeat_last: bool) -> Question:
    newest = rows[-1]
    shopper = shopper_key(newest.user, newest.visitor) if newest.user or newest.visitor else None
    window = [row for row in rows if row.type != EventType.IMPRESSION][-window_size:]
    return Question(
        events=[WindowEvent(row.time, row.event_id, row.type, row.item) for row in window],
        shopper_key=shopper,
        as_of=newest.time,
        k=k,
        repeat_last=repeat_last,
    )


def _ids(text: pa.Table, name: str) -> Strings:
    """Ids as the import reads them: without blanks around them, 17850 for 17850.0."""
    ids, _ = parse_id(pc.utf8_trim_whitespace(_column(text, name)))
    return ids.to_numpy(zero_copy_only=False)


def _column(text: pa.Table, name: str) -> pa.Array:
    """A column as text, all null where the file has none."""
    return text[name].combine_chunks() if name in text.column_names else pa.nulls(text.num_rows, pa.string())


def _answer_chunk(recommender: Recommender, requests: Sequence[BatchRequest]) -> pa.Table:
    slates = recommender.recommend([request.question.encode(recommender.bundle) for request in requests])
    lengths = [slate.items.size for slate in slates]
    items = np.concatenate([slate.items for slate in slates])
    columns = {
        Event.REQUEST: np.repeat(np.array([r.request_id for r in requests], dtype=object), lengths),
        POSITION: np.concatenate([np.arange(1, length + 1) for length in lengths]),
        Event.ITEM: recommender.bundle.item_ids[items],
        SCORE: np.concatenate([slate.scores for slate in slates]),
    }
    return pa.table(
        {name: pa.array(values, ANSWER_SCHEMA.field(name).type) for name, values in columns.items()},
        schema=ANSWER_SCHEMA,
    )
