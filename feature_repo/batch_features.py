"""Statistics of items and users as of a moment T, over the archive before T.

Counts enter as the logarithm of their share, so that the columns mean the same however long the log is.
"""

from typing import Final

import numpy as np

from feature_repo.arrays import Bool, Float32, Float64, Int32, Int64
from feature_repo.encoded_log import EncodedLog
from feature_repo.item_activity import log_share, smoothed_rate
from feature_repo.schema import DAY, EventType
from feature_repo.session_features import IS_INTERACTION, UNKNOWN_ITEM

ITEM_STATISTICS: Final = (
    "item_log_share_1d",
    "item_log_share_7d",
    "item_log_share_30d",
    "item_log_share",
    "item_trend",
    "item_log_purchase_share_30d",
    "item_cart_rate",
    "item_purchase_rate",
    "item_click_rate",
    "item_return_rate",
    "item_repeat_rate",
    "item_rating",
)

USER_STATISTICS: Final = (
    "user_log_interactions",
    "user_log_purchases",
    "user_cart_rate",
    "user_purchase_rate",
    "user_repeat_rate",
    "user_mean_log_price",
    "user_std_log_price",
    "user_log_days_known",
)


def item_statistics(log: EncodedLog, as_of: int) -> Float32:
    """float32[items, len(ITEM_STATISTICS)] from the events before ``as_of`` (microseconds)."""
    log = log.before(as_of)
    log = log.select(log.item != UNKNOWN_ITEM)
    items = len(log.item_ids)

    def count(keep: Bool) -> Float64:
        return np.bincount(log.item[keep], minlength=items).astype(float)

    active = IS_INTERACTION[log.type]
    age = as_of - log.time
    shares = {days: _log_share(count(active & (age <= days * DAY))) for days in (1, 7, 30)}
    overall = count(active)
    purchases = count(log.type == EventType.PURCHASE.code)
    purchases_30d = count((log.type == EventType.PURCHASE.code) & (age <= 30 * DAY))
    shoppers = _distinct_shoppers(log.select(active), items)
    rated = (log.type == EventType.RATE.code) & ~np.isnan(log.value)
    rating_sums = np.bincount(log.item[rated], log.value[rated], minlength=items).astype(float)
    columns = [
        shares[1],
        shares[7],
        shares[30],
        _log_share(overall),
        shares[7] - shares[30],
        _log_share(purchases_30d),
        _smoothed(count(log.type == EventType.ADD_TO_CART.code), overall),
        _smoothed(purchases, overall),
        _smoothed(count(log.type == EventType.CLICK.code), count(log.type == EventType.IMPRESSION.code)),
        _smoothed(count(log.type == EventType.RETURN.code), purchases),
        _smoothed(overall - shoppers, overall),
        _smoothed(rating_sums, count(rated)),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def user_statistics(log: EncodedLog, as_of: int, item_prices: Float32) -> Float32:
    """float32[shoppers, len(USER_STATISTICS)] of the events before ``as_of``; NaN rows where there are none.

    item_prices: float32[items], the catalog's price of every item.
    """
    users = len(log.shopper_keys)
    log = log.before(as_of)
    log = log.select((log.item != UNKNOWN_ITEM) & IS_INTERACTION[log.type])
    counts = np.bincount(log.shopper, minlength=users).astype(float)

    def count(event_type: EventType) -> Float64:
        return np.bincount(log.shopper[log.type == event_type.code], minlength=users).astype(float)

    log_price = np.log1p(item_prices[log.item], dtype=float)  # in float32 the variance drowns in rounding
    known = np.maximum(counts, 1)
    mean_price = np.bincount(log.shopper, weights=log_price, minlength=users) / known
    square_price = np.bincount(log.shopper, weights=log_price**2, minlength=users) / known
    first = np.full(users, as_of, dtype=np.int64)
    np.minimum.at(first, log.shopper, log.time)
    purchases = count(EventType.PURCHASE)
    columns = [
        np.log1p(counts),
        np.log1p(purchases),
        _smoothed(count(EventType.ADD_TO_CART), counts),
        _smoothed(purchases, counts),
        _smoothed(counts - _distinct_items(log, users), counts),
        mean_price,
        np.sqrt(np.maximum(square_price - mean_price**2, 0)),
        np.log1p((as_of - first) / DAY),
    ]
    table = np.stack(columns, axis=1).astype(np.float32)
    table[counts == 0] = np.nan
    return table


def first_and_last_seen(log: EncodedLog, as_of: int) -> tuple[Int64, Int64]:
    """int64[items] twice: time of the first and last interaction before ``as_of``; -1 for never."""
    log = log.before(as_of).interactions()
    items = len(log.item_ids)
    never = np.iinfo(np.int64).max
    first = np.full(items, never, dtype=np.int64)
    last = np.full(items, -1, dtype=np.int64)
    np.minimum.at(first, log.item, log.time)
    np.maximum.at(last, log.item, log.time)
    first[first == never] = -1
    return first, last


def impute_prices(prices: Float32, categories: Int32) -> Float32:
    """float32[items]: missing prices become the category's median, or else the shop's."""
    missing = np.isnan(prices)
    if missing.all():
        return np.zeros_like(prices)
    filled = np.where(missing, np.float32(np.nanmedian(prices)), prices)
    for category in np.unique(categories[missing]):
        known = prices[(categories == category) & ~missing]
        if known.size:
            filled[missing & (categories == category)] = np.median(known)
    return filled


def _log_share(counts: Float64) -> Float64:
    return log_share(counts, counts.sum(), counts.size)


def _smoothed(successes: Float64, trials: Float64) -> Float64:
    return smoothed_rate(successes, successes.sum(), trials, trials.sum())


def _distinct_shoppers(log: EncodedLog, items: int) -> Float64:
    pairs = np.unique(log.item.astype(np.int64) * len(log.shopper_keys) + log.shopper)
    return np.bincount(pairs // len(log.shopper_keys), minlength=items).astype(float)


def _distinct_items(log: EncodedLog, users: int) -> Float64:
    pairs = np.unique(log.shopper.astype(np.int64) * len(log.item_ids) + log.item)
    return np.bincount(pairs // len(log.item_ids), minlength=users).astype(float)
