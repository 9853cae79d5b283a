"""Ranker rows from what was shown: features as they were served, labels from the reactions that followed.

The place on the page goes in as a feature; where a slate is ranked, every candidate has the first place (position
neutralised, as in Haldar et al., KDD 2020). Only slates with a reaction teach an order.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_repo.arrays import Float32
from feature_repo.ranking_features import POSITION, RANKING_COLUMNS, RANKING_HASH
from feature_repo.schema import EVENT_CODES, INTERACTION_TYPES, Event
from serving.served.served_log import RANKING_SCHEMA, Served
from training.ranker import NO_ROWS, RankerRows, together
from training.replay import EVENT_WORTH

_POSITION: Final = RANKING_COLUMNS.index(POSITION)
_WORTH: Final = "worth"


def impression_rows(served: Path, events: pa.Table, before: int, most: int) -> RankerRows:
    """Rows of the newest ``most`` slates shown before a moment (microseconds) that a shopper reacted to.

    served: folder of the served log; events: a log with Event.REQUEST. Slates whose features are of another ranking
    schema than today's are left out.
    """
    worth = reactions(events)
    parts: list[RankerRows] = []
    for shown in _newest_first(served, before) if most else ():
        rows = _newest(_labelled(shown, worth), most)
        parts.append(rows)
        most -= len(rows.groups)
        if most <= 0:
            break
    return together(NO_ROWS, *reversed(parts))


def reactions(events: pa.Table) -> pd.Series:
    """What each shown item was worth, int32 by (request_id, item_id): the most of the shopper's reactions to it."""
    kinds = pc.is_in(events[Event.TYPE], value_set=pa.array(INTERACTION_TYPES, pa.string()))
    named = pc.and_(pc.is_valid(events[Event.REQUEST]), pc.is_valid(events[Event.ITEM]))
    frame = events.filter(pc.and_(kinds, named)).select([Event.REQUEST, Event.ITEM, Event.TYPE]).to_pandas()
    frame[_WORTH] = EVENT_WORTH[frame[Event.TYPE].map(EVENT_CODES).to_numpy(dtype=np.int64)]
    return frame.groupby([Event.REQUEST, Event.ITEM])[_WORTH].max()


def _newest_first(served: Path, before: int) -> Iterator[pd.DataFrame]:
    """Shown items with features, file by file."""
    for path in sorted(served.glob("items/date=*/*.parquet"), reverse=True):
        file = pq.ParquetFile(path)
        if (file.schema_arrow.metadata or {}).get(RANKING_SCHEMA) != RANKING_HASH.encode():
            continue
        table = file.read([Served.REQUEST, Served.AS_OF, Served.POSITION, Served.ITEM, Served.FEATURES])
        told = pc.and_(pc.is_valid(table[Served.POSITION]), pc.is_valid(table[Served.FEATURES]))
        earlier = pc.less(table[Served.AS_OF].cast(pa.int64()), before)
        yield table.filter(pc.and_(told, earlier)).to_pandas()


def _labelled(shown: pd.DataFrame, worth: pd.Series) -> RankerRows:
    """The slates of a file that have a reaction, each in the order in which it was shown."""
    shown = shown.sort_values([Served.AS_OF, Served.REQUEST, Served.POSITION], ignore_index=True)
    keys = pd.MultiIndex.from_frame(shown[[Served.REQUEST, Served.ITEM]])
    shown[_WORTH] = worth.reindex(keys).fillna(0).to_numpy(dtype=np.int32)
    best = shown.groupby(Served.REQUEST)[_WORTH].transform("max")
    shown = shown[best > 0]
    _, first, groups = np.unique(shown[Served.REQUEST], return_index=True, return_counts=True)
    return RankerRows(
        _features(shown),
        shown[_WORTH].to_numpy(dtype=np.int32),
        groups[np.argsort(first)],
    )


def _newest(rows: RankerRows, most: int) -> RankerRows:
    count = len(rows.groups)
    return rows.take(np.arange(count) >= count - most)


def _features(shown: pd.DataFrame) -> Float32:
    if shown.empty:
        return np.zeros((0, len(RANKING_COLUMNS)), np.float32)
    features = np.stack(shown[Served.FEATURES].to_list()).astype(np.float32)
    features[:, _POSITION] = shown[Served.POSITION]
    return features
