"""The event log that the steps of the simulated shoppers leave behind."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from feature_repo.schema import DAY, EVENT_SCHEMA, INTERACTION_TYPES, Event, EventType
from training.simulation.catalog import STYLE_WORDS, Catalog
from training.simulation.choices import Steps
from training.simulation.preferences import EMPTY, Preferences
from training.simulation.visits import Identities, Visits, known_by, numbered

# Where in its step each event lies, as a share of the step's length.
IMPRESSION_AT: Final = 0.1
VIEW_AT: Final = 0.25
FAVORITE_AT: Final = 0.4
CART_AT: Final = 0.5
PURCHASE_AT: Final = 0.8
IMPRESSION_APART: Final = 1000
"""Microseconds between the impressions of a slate."""

SEARCH_SHARE: Final = 0.2
"""Share of the views of something else that follow a search."""
STYLED_QUERY_SHARE: Final = 0.4
RATE_SHARE: Final = 0.3
RETURN_SHARE: Final = 0.07
RATE_AFTER_DAYS: Final = (1.0, 12.0)
RETURN_AFTER_DAYS: Final = (2.0, 20.0)

_STEP: Final = "step"
"""Working column: the step that an event comes from."""
_CODES: Final = {event_type: code for code, event_type in enumerate(EventType)}


@dataclass(frozen=True)
class History:
    """All that happened in the shop until ``end`` (microseconds since 1970), before anyone wrote it down."""

    preferences: Preferences
    catalog: Catalog
    visits: Visits
    identities: Identities
    steps: Steps
    end: int


def event_log(history: History, rng: np.random.Generator) -> tuple[pa.Table, NDArray[np.int32]]:
    """All events in order of time, and the step that each interaction chose its item in.

    Returns a table of EVENT_SCHEMA and an array of the same length: a step for interactions, EMPTY for others.
    """
    visits, steps = history.visits, history.steps
    blocks = [
        _impressions(visits, steps),
        *_views(visits, steps),
        *_actions(history, rng),
        _searches(history, rng),
        *_afterwards(history, rng),
    ]
    rows = pa.concat_tables(blocks, promote_options="default")
    rows = rows.filter(pc.less(rows[Event.TIMESTAMP], history.end))
    shopper = visits.shopper[rows[_STEP].to_numpy()]
    time = _apart(rows[Event.TIMESTAMP].to_numpy().copy(), shopper)
    order = np.lexsort((shopper, time))
    rows, time, shopper = rows.take(pa.array(order)), time[order], shopper[order]
    step = rows[_STEP].to_numpy().astype(np.int32)
    code = rows[Event.TYPE].to_numpy()
    interaction = np.isin(code, [_CODES[event_type] for event_type in INTERACTION_TYPES])

    stamp = pa.array(time, pa.int64()).cast(pa.timestamp("us", tz="UTC"))
    late = np.isin(code, [_CODES[EventType.RATE], _CODES[EventType.RETURN]])
    given: dict[str, Any] = {
        Event.ID: numbered("e", np.arange(len(time))),
        Event.TYPE: pa.array([event_type.value for event_type in EventType]).take(pa.array(code)),
        Event.ITEM: pa.array(history.catalog.item_ids).take(rows[Event.ITEM]),
        Event.TIMESTAMP: stamp,
        Event.ARRIVAL: stamp,
        Event.SESSION: numbered("s", visits.session[step], absent=late),
        **known_by(history.identities, visits, shopper, time),
    }
    columns = [
        given[field.name]
        if field.name in given
        else rows[field.name]
        if field.name in rows.column_names
        else pa.nulls(len(time), field.type)
        for field in EVENT_SCHEMA
    ]
    return pa.table(columns, schema=EVENT_SCHEMA), np.where(interaction, step, EMPTY).astype(np.int32)


def _apart(time: NDArray[np.int64], shopper: NDArray[Any]) -> NDArray[np.int64]:
    """Times moved by microseconds until no shopper has two events at one time."""
    while True:
        order = np.lexsort((time, shopper))
        same = (np.diff(time[order]) == 0) & (np.diff(shopper[order]) == 0)
        if not same.any():
            return time
        time[order[1:][same]] += 1


def _block(visits: Visits, step: NDArray[Any], event_type: EventType, at: float, **columns: Any) -> pa.Table:
    """Events of one type, one per step of ``step``, at a share of the step's length."""
    time = visits.time[step] + (visits.length[step] * at).astype(np.int64)
    code = np.full(len(step), _CODES[event_type], np.int8)
    return pa.table({_STEP: step, Event.TYPE: code, Event.TIMESTAMP: time, **columns})


def _slate(visits: Visits, step: NDArray[Any]) -> dict[str, pa.Array]:
    """Placement and request of the slate shown in each step."""
    placement = pa.array(["similar", "home"]).take(pa.array(visits.first[step].astype(np.int8)))
    return {Event.PLACEMENT: placement, Event.REQUEST: numbered("r", step)}


def _impressions(visits: Visits, steps: Steps) -> pa.Table:
    step, position = np.nonzero(steps.shown != EMPTY)
    block = _block(
        visits,
        step,
        EventType.IMPRESSION,
        IMPRESSION_AT,
        **{
            Event.ITEM: steps.shown[step, position],
            Event.POSITION: (1 + position).astype(np.int32),
            **_slate(visits, step),
        },
    )
    time = block[Event.TIMESTAMP].to_numpy() + position * IMPRESSION_APART
    return block.set_column(block.schema.get_field_index(Event.TIMESTAMP), Event.TIMESTAMP, pa.array(time))


def _views(visits: Visits, steps: Steps) -> list[pa.Table]:
    slated = steps.shown[:, 0] != EMPTY
    viewed = np.flatnonzero(~slated & (steps.item != EMPTY))
    clicked = np.flatnonzero(slated & (steps.item != EMPTY))
    position = (1 + np.argmax(steps.shown[clicked] == steps.item[clicked, None], axis=1)).astype(np.int32)
    return [
        _block(visits, viewed, EventType.VIEW, VIEW_AT, **{Event.ITEM: steps.item[viewed]}),
        _block(
            visits,
            clicked,
            EventType.CLICK,
            VIEW_AT,
            **{
                Event.ITEM: steps.item[clicked],
                Event.POSITION: position,
                **_slate(visits, clicked),
            },
        ),
    ]


def _actions(history: History, rng: np.random.Generator) -> list[pa.Table]:
    visits, steps, price = history.visits, history.steps, history.catalog.price
    blocks = []
    for happened, event_type, at in (
        (steps.favorite, EventType.FAVORITE, FAVORITE_AT),
        (steps.cart, EventType.ADD_TO_CART, CART_AT),
        (steps.remove, EventType.REMOVE_FROM_CART, PURCHASE_AT),
    ):
        step = np.flatnonzero(happened)
        blocks.append(_block(visits, step, event_type, at, **{Event.ITEM: steps.item[step]}))
    step = np.flatnonzero(steps.purchase)
    bought = {
        Event.ITEM: steps.item[step],
        Event.PRICE: price[steps.item[step]],
        Event.QUANTITY: rng.geometric(0.8, len(step)).astype(np.float64),
    }
    return [*blocks, _block(visits, step, EventType.PURCHASE, PURCHASE_AT, **bought)]


def _searches(history: History, rng: np.random.Generator) -> pa.Table:
    """Searches for what the session is about, some in the words of the shopper's strongest taste."""
    visits, steps = history.visits, history.steps
    slated = steps.shown[:, 0] != EMPTY
    searched = ~slated & ~steps.returned_to & (rng.random(len(visits)) < SEARCH_SHARE)
    step = np.flatnonzero(searched)
    taste = history.preferences.taste[visits.shopper[step]]
    axis = np.abs(taste).argmax(axis=1)
    side = (taste[np.arange(len(step)), axis] <= 0).astype(int)
    noun = pa.array(history.catalog.nouns).take(pa.array(steps.states.intent[step, 0]))
    word = pa.array(np.array(STYLE_WORDS)[axis, side].astype(object), pa.string())
    styled = pa.array(rng.random(len(step)) < STYLED_QUERY_SHARE)
    query = pc.if_else(styled, pc.binary_join_element_wise(word, noun, " "), noun)
    return _block(visits, step, EventType.SEARCH, 0.0, **{Event.QUERY: query})


def _afterwards(history: History, rng: np.random.Generator) -> list[pa.Table]:
    """Ratings and returns, days after the purchase."""
    catalog, visits, steps = history.catalog, history.visits, history.steps
    bought = np.flatnonzero(steps.purchase)
    rated = bought[rng.random(len(bought)) < RATE_SHARE]
    returned = bought[rng.random(len(bought)) < RETURN_SHARE]
    item = steps.item[rated]
    content = catalog.quality[item] + history.preferences.fit(visits.shopper[rated], item)
    value = np.clip(np.round(3.2 + 0.6 * content + rng.normal(0, 0.8, len(rated))), 1, 5)
    return [
        _later(
            _block(visits, rated, EventType.RATE, PURCHASE_AT, **{Event.ITEM: item, Event.VALUE: value}),
            RATE_AFTER_DAYS,
            rng,
        ),
        _later(
            _block(
                visits,
                returned,
                EventType.RETURN,
                PURCHASE_AT,
                **{Event.ITEM: steps.item[returned], Event.PRICE: catalog.price[steps.item[returned]]},
            ),
            RETURN_AFTER_DAYS,
            rng,
        ),
    ]


def _later(block: pa.Table, days: tuple[float, float], rng: np.random.Generator) -> pa.Table:
    """The same events, some days later."""
    delay = (rng.uniform(*days, block.num_rows) * DAY).astype(np.int64)
    time = block[Event.TIMESTAMP].to_numpy() + delay
    return block.set_column(block.schema.get_field_index(Event.TIMESTAMP), Event.TIMESTAMP, pa.array(time))
