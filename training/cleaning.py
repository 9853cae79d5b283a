"""The log as it may be learned from: what is wrong in it is removed or repaired, rule by rule, and counted.

Rules follow one another: an event is removed by the first that says so, and later ones do not see it. So every
event is either kept or removed by exactly one rule, and only kept events count as repaired.
"""

from enum import StrEnum
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.arrays import Float64, Int64
from feature_repo.schema import DAY, EVENT_CODES, INTERACTION_TYPES, ITEMLESS_TYPES, Event, EventType, Item
from feature_repo.settings import Settings
from training.log_report import Action, Finding, example_of


class Rule(StrEnum):
    """What may be wrong with an event, in the words of the report."""

    INCOMPLETE = "no shopper, item or known type"
    IMPOSSIBLE_PRICE = "impossible price"
    IMPOSSIBLE_QUANTITY = "impossible quantity"
    IMPOSSIBLE_RATING = "impossible rating"
    REPEAT = "repeated event"
    BOT = "bot"
    ABSURD_PRICE = "absurd price"


class Treatment(NamedTuple):
    """The column that a rule makes missing (None: it removes the event), and what a person does next."""

    repairs: str | None
    advice: str


TREATMENTS: Final = {
    Rule.INCOMPLETE: Treatment(None, "mend what sends or exports these events"),
    Rule.IMPOSSIBLE_PRICE: Treatment(Event.PRICE, "send a price above zero, or none"),
    Rule.IMPOSSIBLE_QUANTITY: Treatment(Event.QUANTITY, "send a number of units above zero, or none"),
    Rule.IMPOSSIBLE_RATING: Treatment(Event.VALUE, "send a finite rating, or none"),
    Rule.REPEAT: Treatment(None, "give an event one event_id, and send it again under the same"),
    Rule.BOT: Treatment(None, "keep crawlers and monitors out of the shop's tracking"),
    Rule.ABSURD_PRICE: Treatment(Event.PRICE, "look for a mistaken unit or currency"),
}

Faults = dict[Rule, Int64]
"""Rule -> numbers of the rows that it hits, ascending."""

LARGEST: Final = 1e12
"""No price, quantity or rating is larger, in whatever currency or unit."""
FEWEST_PRICES: Final = 5
"""An item with fewer prices in the log is compared with its price in the catalog, not with their median."""
ORDER_TYPES: Final = (EventType.PURCHASE, EventType.RETURN)
"""Their events are lines of an order: they share its instant, and two equal lines are two units."""
BROWSING_TYPES: Final = tuple(kind for kind in INTERACTION_TYPES if kind not in ORDER_TYPES)
"""What bots do in masses. An order of a thousand lines is a wholesaler's."""

_ORDER: Final = [Event.TYPE, Event.USER, Event.VISITOR, Event.TIMESTAMP]
_IDENTITY: Final = [
    *_ORDER,
    Event.ITEM,
    Event.PLACEMENT,
    Event.REQUEST,
    Event.POSITION,
    Event.QUERY,
    Event.QUANTITY,
    Event.VALUE,
]
"""What two copies of an event have in common. Not the price, so that mending prices makes no new copies."""
COLUMNS: Final = (Event.ID, *_IDENTITY, Event.PRICE)
"""What cleaning reads of an event."""

_SHOPPER: Final = "shopper"
_COMPLETE: Final = "complete"
_LISTED_PRICE: Final = "listed_price"


_AMOUNT: Final = pandera.Check.in_range(0, LARGEST, include_min=False)
_SOUND: Final = pandera.DataFrameSchema(
    {
        _COMPLETE: pandera.Column(bool, pandera.Check.eq(value=True)),
        Event.PRICE: pandera.Column(float, _AMOUNT, nullable=True),
        Event.QUANTITY: pandera.Column(float, _AMOUNT, nullable=True),
        Event.VALUE: pandera.Column(float, pandera.Check.in_range(-LARGEST, LARGEST), nullable=True),
    }
)
"""What holds for every sound event by itself."""
_RULE_OF: Final = {
    _COMPLETE: Rule.INCOMPLETE,
    Event.PRICE: Rule.IMPOSSIBLE_PRICE,
    Event.QUANTITY: Rule.IMPOSSIBLE_QUANTITY,
    Event.VALUE: Rule.IMPOSSIBLE_RATING,
}


def clean(events: pa.Table, items: pa.Table, settings: Settings) -> tuple[pa.Table, list[Finding]]:
    """``events`` in their order without what is wrong in them, and what that was.

    events: EVENT_SCHEMA, or at least COLUMNS; items: ITEM_SCHEMA. What is done does not depend on the order of
    rows, and doing it again changes nothing more.
    """
    faults = find_faults(events, items, settings)
    return mend(events, faults), describe(events, faults)


def find_faults(events: pa.Table, items: pa.Table, settings: Settings) -> Faults:
    """The rows that each rule hits; events and items as ``clean`` takes them."""
    log = _encoded(events, items)
    hits = _unsound(log)
    for column, rule in _RULE_OF.items():
        if column != _COMPLETE:
            log.loc[hits[rule], column] = np.nan
    log = log.drop(index=hits[Rule.INCOMPLETE])
    hits[Rule.REPEAT] = _repeats(log, events[Event.ID])
    log = log.drop(index=hits[Rule.REPEAT])
    hits[Rule.BOT] = _bots(log, settings.quality_bot_interactions)
    log = log.drop(index=hits[Rule.BOT])
    hits[Rule.ABSURD_PRICE] = _absurd_prices(log, settings.quality_price_factor)
    return {
        rule: (hits[rule] if TREATMENTS[rule].repairs is None else hits[rule].intersection(log.index))
        .sort_values()
        .to_numpy()
        for rule in Rule
    }


def mend(events: pa.Table, faults: Faults) -> pa.Table:
    """``events`` without those to be removed; what is to be repaired is missing in those that stay."""
    kept = np.ones(events.num_rows, bool)
    for rule, rows in faults.items():
        column = TREATMENTS[rule].repairs
        if column is None:
            kept[rows] = False
        elif rows.size:
            wrong = np.zeros(events.num_rows, bool)
            wrong[rows] = True
            place, kind = events.schema.get_field_index(column), events[column].type
            mended = pc.if_else(pa.array(wrong), pa.scalar(None, kind), events[column])
            events = events.set_column(place, events.schema.field(place), mended)
    return events if kept.all() else events.filter(pa.array(kept))


def describe(events: pa.Table, faults: Faults) -> list[Finding]:
    """A finding for each rule that hit a row of ``events``."""
    return [
        Finding(
            rule=rule.value,
            rows=len(rows),
            share=len(rows) / events.num_rows,
            action=Action.REMOVED if TREATMENTS[rule].repairs is None else Action.REPAIRED,
            example=example_of(events.take(pa.array(rows))),
            advice=TREATMENTS[rule].advice,
        )
        for rule, rows in faults.items()
        if rows.size
    ]


def _encoded(events: pa.Table, items: pa.Table) -> pd.DataFrame:
    """The log as numbers; index: row. Codes are equal where the texts are, and -1 for none."""
    texts = (Event.USER, Event.VISITOR, Event.ITEM, Event.PLACEMENT, Event.REQUEST, Event.QUERY)
    types = events[Event.TYPE].to_pandas().map(EVENT_CODES).fillna(-1).astype(np.int8)
    log = pd.DataFrame({Event.TYPE: types, **{name: _codes(events[name]) for name in texts}})
    log[Event.TIMESTAMP] = events[Event.TIMESTAMP].cast(pa.int64()).to_numpy()
    log[Event.POSITION] = pc.fill_null(events[Event.POSITION], -1).to_numpy()
    for name in (Event.PRICE, Event.QUANTITY, Event.VALUE):
        log[name] = _numbers(events[name])
    # Users count up from 0, visitors down from -2; -1 is nobody.
    log[_SHOPPER] = np.where(log[Event.USER] >= 0, log[Event.USER], -2 - log[Event.VISITOR])
    needs_item = ~log[Event.TYPE].isin([kind.code for kind in ITEMLESS_TYPES])
    log[_COMPLETE] = (log[Event.TYPE] >= 0) & (log[_SHOPPER] != -1) & ((log[Event.ITEM] >= 0) | ~needs_item)
    listed = items[Item.PRICE].take(
        pc.index_in(events[Event.ITEM], value_set=items[Item.ID].combine_chunks())
    )
    log[_LISTED_PRICE] = pd.Series(listed.to_numpy()).where(lambda price: price > 0)
    return log


def _codes(column: pa.ChunkedArray) -> Int64:
    return pc.fill_null(column.combine_chunks().dictionary_encode().indices, -1).to_numpy()


def _numbers(column: pa.ChunkedArray) -> Float64:
    """Missing values as NaN, and values that are NaN as infinity, so that they differ."""
    return pc.if_else(pc.is_nan(column), np.inf, column).to_numpy()


def _unsound(log: pd.DataFrame) -> dict[Rule, pd.Index]:
    """Rows that are wrong by themselves, whatever the others are."""
    try:
        _SOUND.validate(log, lazy=True)
    except pandera.errors.SchemaErrors as errors:
        wrong = errors.failure_cases
        return {
            rule: pd.Index(wrong.loc[wrong["column"] == column, "index"].astype(np.int64))
            for column, rule in _RULE_OF.items()
        }
    return dict.fromkeys(_RULE_OF.values(), log.index[:0])


def _repeats(log: pd.DataFrame, event_ids: pa.ChunkedArray) -> pd.Index:
    """Copies of an event under other ids; the smallest id stays.

    Of equal lines of an order as many stay as it had: lines are copies only as far as the whole order repeats.
    """
    at_once = log[log.duplicated(Event.TIMESTAMP, keep=False)]
    if not at_once.duplicated(_IDENTITY).any():
        return log.index[:0]
    same = at_once.groupby(_IDENTITY, dropna=False, sort=False)
    copies = same[Event.TYPE].transform("size").to_numpy()
    order = at_once.groupby(_ORDER, sort=False).ngroup().to_numpy()
    by_order = np.argsort(order, kind="stable")
    starts = np.flatnonzero(np.diff(order[by_order], prepend=-1))
    is_line = at_once[Event.TYPE].isin([kind.code for kind in ORDER_TYPES]).to_numpy()
    times_sent = np.where(is_line, np.gcd.reduceat(copies[by_order], starts)[order], copies)
    asked = at_once.index[copies > 1]  # few, and text is slow to sort
    ids = event_ids.take(pa.array(asked)).to_pandas().to_numpy()
    events = pd.DataFrame({"event": same.ngroup().to_numpy()[copies > 1], "id": ids}, index=asked)
    place = events.sort_values("id").groupby("event").cumcount().reindex(asked)
    return asked[place.to_numpy() >= (copies // times_sent)[copies > 1]]


def _bots(log: pd.DataFrame, limit: int) -> pd.Index:
    """All that a shopper did on a UTC day with more than ``limit`` browsing interactions."""
    browsing = log[Event.TYPE].isin([kind.code for kind in BROWSING_TYPES])
    days = browsing.groupby([log[_SHOPPER], log[Event.TIMESTAMP] // DAY])
    return log.index[days.transform("sum") > limit]


def _absurd_prices(log: pd.DataFrame, factor: float) -> pd.Index:
    """Prices more than ``factor`` times above or below what is usual for their item.

    Without them the usual price is another, so it is asked again until none is left.
    """
    priced = log.loc[log[Event.PRICE].notna() & (log[Event.ITEM] >= 0)]
    sane = priced
    while True:
        prices = sane.groupby(Event.ITEM)[Event.PRICE]
        usual = prices.transform("median").where(
            prices.transform("size") >= FEWEST_PRICES, sane[_LISTED_PRICE]
        )
        far = (sane[Event.PRICE] > usual * factor) | (sane[Event.PRICE] < usual / factor)
        if not far.any():
            return priced.index.difference(sane.index)
        sane = sane[~far]
