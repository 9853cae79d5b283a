"""Baskets: what does a customer buy next, and what belongs to a basket that is half full?"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np

from feature_repo.arrays import Bool, Int32, Int64, rows_of_spans
from feature_repo.encoded_log import EncodedLog
from feature_repo.schema import EventType
from feature_repo.session_features import UNKNOWN_ITEM
from feature_repo.settings import Settings
from training.evaluation.requests import Requests, met_before
from training.replay import Replay, remembered_from, window_ttl

SEED: Final = 20
"""Draws what is shown of a basket."""


def next_basket(log: EncodedLog, start: int, end: int, settings: Settings) -> Requests:
    """What does a known customer, a user with a purchase before ``start``, buy in [start, end)?

    Asked once, at ``start``. Shoppers rebuy, so nothing is excluded.
    """
    known = met_before(log, start)
    log = _remembered(log)
    shoppers, items = len(log.shopper_keys), len(log.item_ids)
    bought, before = _is_bought(log), log.time < start
    customer = np.bincount(log.shopper[bought & before], minlength=shoppers) > 0
    customer &= np.array([key.startswith("u:") for key in log.shopper_keys], dtype=bool)
    row = np.flatnonzero(bought & ~before & (log.time < end) & customer[log.shopper])
    pairs = np.unique(log.shopper[row].astype(np.int64) * items + log.item[row])
    shopper, first = np.unique((pairs // items).astype(np.int32), return_index=True)
    stop = (log.offsets()[:-1] + np.bincount(log.shopper[before], minlength=shoppers))[shopper]
    as_of = np.full(stop.size, start)
    asked = Replay(
        log=log,
        shopper=shopper,
        start=_window_starts(log, shopper, stop, as_of, settings),
        stop=stop,
        as_of=as_of,
        wanted=(pairs % items).astype(np.int32),
        offsets=np.append(first, pairs.size),
        excluded=np.zeros((stop.size, 2), np.int64),
    )
    return Requests.wanting(asked, known)


def basket_completion(log: EncodedLog, start: int, end: int, settings: Settings) -> Requests:
    """A random half of the distinct items that are bought in a session is shown; which are the others?

    The shopper's window ends before the session, so that what was looked at on the way to the purchase does not
    give the answer away. What is shown is appended to it, and excluded from the answers whether or not a method
    sees it. A request is asked at the moment of the newest purchase shown.
    """
    return _rest_of_baskets(log, start, end, settings, _half)


def page_of_basket(log: EncodedLog, start: int, end: int, settings: Settings) -> Requests:
    """A random item of the distinct ones that are bought in a session is on the page; which are the others?

    As ``basket_completion``, but the shopper only looks at what is shown.
    """
    asked = _rest_of_baskets(log, start, end, settings, _one)
    events = asked.replay.log
    seen = np.zeros(len(events), dtype=bool)
    seen[asked.replay.stop - 1] = True
    looked_at = replace(
        events, type=np.where(seen, EventType.VIEW.code, events.type).astype(events.type.dtype)
    )
    return replace(asked, replay=replace(asked.replay, log=looked_at), from_history=None)


def _rest_of_baskets(
    log: EncodedLog, start: int, end: int, settings: Settings, how_many: Callable[[Int64], Int64]
) -> Requests:
    """Of a basket of n items ``how_many(n)``, drawn, are shown, and the others wanted."""
    known = met_before(log, start)
    log = _remembered(log)
    session = log.session()
    bought = np.flatnonzero(_is_bought(log) & (log.time >= start) & (log.time < end))
    _, first = np.unique(session[bought] * len(log.item_ids) + log.item[bought], return_index=True)
    in_baskets = _of_several(bought[first], session)
    row = _of_several(in_baskets[known[log.item[in_baskets]]], session)
    is_shown = _drawn(session[row], how_many)
    hidden, shown = row[~is_shown], np.sort(row[is_shown])
    baskets, offsets = np.unique(session[hidden], return_index=True)
    begin = np.searchsorted(session, baskets)
    newest_shown = shown[np.searchsorted(session[shown], baskets, side="right") - 1]
    shopper, as_of = log.shopper[begin], log.time[newest_shown]
    window = _window_starts(log, shopper, begin, as_of, settings)
    gathered, history_start, history_stop, stop = _followed_by(window, begin, shown, session[shown])
    with_shown = Replay(
        log=_taken(log, gathered),
        shopper=shopper,
        start=np.maximum(history_start, stop - settings.window_size),
        stop=stop,
        as_of=as_of,
        wanted=log.item[hidden],
        offsets=np.append(offsets, hidden.size),
        excluded=np.column_stack([history_stop, stop]),
    )
    from_history = replace(with_shown, start=history_start, stop=history_stop)
    return Requests(with_shown, len(with_shown), in_baskets.size, row.size, from_history)


def _remembered(log: EncodedLog) -> EncodedLog:
    """What a window can hold, without what was anonymous then: who it was may have come out only later."""
    return log.select((log.type != EventType.IMPRESSION.code) & log.identified)


def _is_bought(log: EncodedLog) -> Bool:
    return (log.type == EventType.PURCHASE.code) & (log.item != UNKNOWN_ITEM)


def _window_starts(log: EncodedLog, shopper: Int32, stop: Int64, as_of: Int64, settings: Settings) -> Int64:
    """int64[n]: where the windows of shoppers begin that end before the events ``stop``; at ``stop`` if empty."""
    ttl = window_ttl(settings)
    newest = np.maximum(stop - 1, 0)
    alive = (stop > 0) & (log.shopper[newest] == shopper) & (as_of - log.time[newest] <= ttl)
    begin = np.maximum(remembered_from(log, ttl)[newest], stop - settings.window_size)
    return np.where(alive, begin, stop)


def _of_several(row: Int64, session: Int64) -> Int64:
    """The rows of sessions that have more than one of them, by session."""
    _, inverse, counts = np.unique(session[row], return_inverse=True, return_counts=True)
    return row[counts[inverse] > 1]


def _half(size: Int64) -> Int64:
    return size // 2


def _one(size: Int64) -> Int64:
    return np.ones_like(size)


def _drawn(basket: Int64, how_many: Callable[[Int64], Int64]) -> Bool:
    """bool[n]: ``how_many`` of each basket's rows; ``basket`` int64[n] is sorted."""
    order = np.lexsort((np.random.default_rng(SEED).random(basket.size), basket))
    _, first, number, counts = np.unique(basket, return_index=True, return_inverse=True, return_counts=True)
    chosen = np.zeros(basket.size, dtype=bool)
    chosen[order] = np.arange(basket.size) - first[number] < how_many(counts)[number]
    return chosen


def _followed_by(start: Int64, stop: Int64, shown: Int64, basket: Int64) -> tuple[Int64, Int64, Int64, Int64]:
    """The rows [start, stop) of each request one after the other, each followed by what is ``shown`` of its basket.

    start, stop int64[n]; shown int64[m], rows sorted by ``basket`` int64[m]. Returns the rows int64[k]; and where
    each request's begin, where what is shown begins, and where both end: int64[n] each.
    """
    lengths, shown_lengths = stop - start, np.unique(basket, return_counts=True)[1]
    request, request_shown = (np.repeat(np.arange(start.size), size) for size in (lengths, shown_lengths))
    window = rows_of_spans(start, lengths)
    order = np.argsort(np.concatenate([request, request_shown]), kind="stable")
    end = np.cumsum(lengths + shown_lengths)
    return np.concatenate([window, shown])[order], end - lengths - shown_lengths, end - shown_lengths, end


def _taken(log: EncodedLog, rows: Int64) -> EncodedLog:
    """These rows of a log, in this order."""
    return replace(
        log,
        shopper=log.shopper[rows],
        item=log.item[rows],
        type=log.type[rows],
        time=log.time[rows],
        price=log.price[rows],
        value=log.value[rows],
        identified=log.identified[rows],
        row=log.row[rows],
    )
