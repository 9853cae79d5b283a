"""The ranking feature matrix: everything the ranker sees of a request's candidates, schema ``ranking_v1``."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Protocol

import numpy as np

from feature_repo.arrays import Bool, Float32, Float64, Int32, Int64
from feature_repo.batch_features import ITEM_STATISTICS, USER_STATISTICS
from feature_repo.item_activity import ACTIVITY_FEATURES, UNKNOWN_ACTIVITY, Activity
from feature_repo.schema import DAY, HOUR, SECOND, EventType
from feature_repo.session_features import SESSION_FEATURES, Recent, Window, recent_items, session_features
from feature_repo.user_history import HISTORY_FEATURES, NO_HISTORY, UserHistory, history_features
from feature_repo.user_tower import UserTower, unit

SOURCES: Final = (
    "revisits",
    "repeats",
    "next_item",
    "session_neighbours",
    "covisitation",
    "last_item_covisitation",
    "bought_together",
    "random_walk",
    "session_embedding",
    "user_embedding",
    "similar_users",
    "content",
    "category_popular",
    "segment_popular",
    "trending",
    "popular",
    "text",
)
"""Names of the retrieval sources whose scores and ranks are features."""

POSITION: Final = "position"
"""Place on the page where an item was shown, known of what was shown once; a candidate is ranked for the first
place, so that the ranker learns what the place did and does not take it for the item's merit."""

RANKING_COLUMNS: Final = (
    *(f"{source}_{what}" for source in SOURCES for what in ("score", "rank", "relative")),
    "fused_score",
    "revisit_count",
    "revisit_steps_ago",
    "revisit_log_seconds_ago",
    "revisit_carted",
    "revisit_purchased",
    *HISTORY_FEATURES,
    "next_item_log_probability",
    "next_item_margin",
    "next_item_confidence",
    "similarity_last_item",
    "similarity_session",
    "similarity_user",
    "content_last_item",
    "content_session",
    "same_category_last",
    "category_share",
    "department_share",
    "same_brand_last",
    "brand_share",
    "item_log_price",
    "item_price_missing",
    "price_vs_window",
    "price_vs_user",
    *ITEM_STATISTICS,
    "item_log_days_since_first_seen",
    "item_log_days_since_last_seen",
    *ACTIVITY_FEATURES,
    *SESSION_FEATURES,
    *USER_STATISTICS,
    "hour_of_day",
    "day_of_week",
    POSITION,
)

RANKING_HASH: Final = hashlib.sha256("\n".join(RANKING_COLUMNS).encode()).hexdigest()[:16]
"""Fingerprint of the columns and their order: a bundle trained on others is refused."""


@dataclass(frozen=True)
class ItemColumns:
    """What the ranker reads of items; each array has one row per item.

    statistics float32[n, len(ITEM_STATISTICS)]; first_seen, last_seen int64 microseconds, -1 for never;
    category, department, brand int32 codes, -1 where missing; price float32, imputed; price_missing bool;
    content float32[n, c]: unit vectors of what the catalog says of the items, zero where it says nothing.
    """

    statistics: Float32
    first_seen: Int64
    last_seen: Int64
    category: Int32
    department: Int32
    brand: Int32
    price: Float32
    price_missing: Bool
    content: Float32


@dataclass(frozen=True)
class UserRow:
    """Batch features of one user: statistics float32[len(USER_STATISTICS)], embedding float32[d], history."""

    statistics: Float32
    embedding: Float32
    history: UserHistory = NO_HISTORY


@dataclass(frozen=True)
class Candidates:
    """Retrieved items of one request, the best fused score first.

    items int32[n]; fused float32[n]; scores, ranks and relative (to the source's best)
    float32[n, len(SOURCES)], NaN where a source did not bring the item; ranks count from 0.
    """

    items: Int32
    fused: Float32
    scores: Float32
    ranks: Float32
    relative: Float32

    def take(self, keep: Bool) -> "Candidates":
        """The candidates where ``keep`` is True, in order."""
        return Candidates(
            self.items[keep], self.fused[keep], self.scores[keep], self.ranks[keep], self.relative[keep]
        )

    def with_unbrought(self, items: Int32) -> "Candidates":
        """The candidates, and behind them items int32[m] that no source brought."""
        nothing = np.full((items.size, self.scores.shape[1]), np.nan, np.float32)
        tables = (np.concatenate([table, nothing]) for table in (self.scores, self.ranks, self.relative))
        fused = np.concatenate([self.fused, np.zeros(items.size, np.float32)])
        return Candidates(np.concatenate([self.items, items]), fused, *tables)


@dataclass(frozen=True)
class Page:
    """What the page of a request is about: items int32[n] and cart int32[m], as far as the model knows them; query:
    what the shopper searches for, None for nothing.
    """

    items: Int32
    cart: Int32
    query: str | None = None


NO_PAGE: Final = Page(np.zeros(0, np.int32), np.zeros(0, np.int32))


@dataclass(frozen=True)
class ShopperState:
    """All that is known at the moment of asking, ``as_of`` (microseconds since 1970, UTC).

    window, user: of the shopper; activity: of the items, which tells what other shoppers do; page: where the slate
    is to stand.
    """

    window: Window
    user: UserRow
    as_of: int
    activity: Activity = UNKNOWN_ACTIVITY
    page: Page = NO_PAGE


class Expectation(Protocol):
    """How likely items are to be the next, as a session encoder sees it."""

    @property
    def best(self) -> float:
        """Log-probability of the likeliest item."""
        ...

    def log_probability(self, items: Int32) -> Float32:
        """float32[m]: of items int32[m]."""
        ...

    def likeliest(self, allowed: Bool | None) -> tuple[Int32, Float32]:
        """Items int32[n], the likeliest that are allowed among them, with log-probabilities float32[n]."""
        ...


@dataclass(frozen=True)
class Interest:
    """What a model makes of a shopper.

    active: the interactions of the window; session float32[d]: their vector, zero for none; expected: what comes
    next, None where the session encoder sees nothing.
    """

    active: Window
    session: Float32
    expected: Expectation | None

    @cached_property
    def recent(self) -> Recent:
        """The distinct items of the interactions."""
        return recent_items(self.active)


def ranking_matrix(
    candidates: Candidates, shopper: ShopperState, interest: Interest, items: ItemColumns, tower: UserTower
) -> Float32:
    """float32[candidates, len(RANKING_COLUMNS)]; NaN marks what does not exist, which LightGBM knows."""
    active, user, as_of = interest.active, shopper.user, shopper.as_of
    shown = candidates.items
    n = shown.size
    by_source = np.stack([candidates.scores, candidates.ranks, candidates.relative], axis=2)
    source_columns = by_source.reshape(n, 3 * len(SOURCES))
    return np.column_stack(
        [
            source_columns,
            candidates.fused,
            _revisits(shown, active, as_of),
            history_features(shown, user.history, as_of),
            _expectations(shown, interest),
            _similarities(shown, interest, user, tower),
            _content_similarities(shown, active, items),
            _relations(shown, active, user, items),
            items.statistics[shown],
            _log_days(as_of - items.first_seen[shown], items.first_seen[shown]),
            _log_days(as_of - items.last_seen[shown], items.last_seen[shown]),
            shopper.activity.features(shown),
            _repeat(session_features(shopper.window, as_of), n),
            _repeat(user.statistics, n),
            _repeat(_clock(as_of), n),
            np.ones(n, np.float32),
        ]
    ).astype(np.float32, copy=False)


def _repeat(row: Float32, n: int) -> Float32:
    return np.broadcast_to(row, (n, row.size))


def _clock(as_of: int) -> Float32:
    return np.array([as_of // HOUR % 24, (as_of // DAY + 3) % 7], dtype=np.float32)


def _log_days(age: Int64, seen: Int64) -> Float64:
    days = np.log1p(np.maximum(age, 0) / DAY)
    days[seen < 0] = np.nan
    return days


def _revisits(shown: Int32, active: Window, as_of: int) -> Float32:
    """How often and how long ago the shopper met each item; how often it was carted and purchased."""
    columns = np.full((shown.size, 5), np.nan, dtype=np.float32)
    columns[:, [0, 3, 4]] = 0
    if not active.items.size:
        return columns
    met = shown[:, None] == active.items[None, :]
    columns[:, 0] = met.sum(axis=1)
    before = columns[:, 0] > 0
    newest = active.items.size - 1 - np.argmax(met[before, ::-1], axis=1)
    columns[before, 1] = active.items.size - 1 - newest
    columns[before, 2] = np.log1p(np.maximum(as_of - active.times[newest], 0) / SECOND)
    columns[:, 3] = met[:, active.types == EventType.ADD_TO_CART.code].sum(axis=1)
    columns[:, 4] = met[:, active.types == EventType.PURCHASE.code].sum(axis=1)
    return columns


def _expectations(shown: Int32, interest: Interest) -> Float32:
    """Log-probability of each candidate to be next, its distance to that of the best item, and that of the best."""
    columns = np.full((shown.size, 3), np.nan, dtype=np.float32)
    if interest.expected is not None:
        best = np.float32(interest.expected.best)
        columns[:, 0] = interest.expected.log_probability(shown)
        columns[:, 1] = columns[:, 0] - best
        columns[:, 2] = best
    return columns


def _similarities(shown: Int32, interest: Interest, user: UserRow, tower: UserTower) -> Float32:
    """Cosine of each candidate with the last item, the session vector and the user vector."""
    if interest.active.items.size:
        last, session = tower.embeddings[interest.active.items[-1]], interest.session
    else:
        last = session = np.full(tower.embeddings.shape[1], np.nan, dtype=np.float32)
    return tower.embeddings[shown] @ np.stack([last, session, user.embedding], axis=1)


def _content_similarities(shown: Int32, active: Window, items: ItemColumns) -> Float32:
    """Cosine of each candidate's content with that of the last item and with the mean of the window's."""
    if not active.items.size or not items.content.shape[1]:
        return np.full((shown.size, 2), np.nan, dtype=np.float32)
    of_window = items.content[active.items]
    return items.content[shown] @ np.stack([of_window[-1], unit(of_window.mean(axis=0))], axis=1)


def _relations(shown: Int32, active: Window, user: UserRow, items: ItemColumns) -> Float32:
    """Category, brand and price of each candidate against those of the window."""
    price = np.log1p(items.price[shown])
    mean_user_price = user.statistics[USER_STATISTICS.index("user_mean_log_price")]
    columns = np.full((shown.size, 9), np.nan, dtype=np.float32)
    columns[:, 5] = price
    columns[:, 6] = items.price_missing[shown]
    columns[:, 8] = price - mean_user_price
    if active.items.size:
        last = active.items[-1]
        columns[:, 0] = _same(items.category[shown], items.category[last])
        columns[:, 1] = _share(items.category[shown], items.category[active.items])
        columns[:, 2] = _share(items.department[shown], items.department[active.items])
        columns[:, 3] = _same(items.brand[shown], items.brand[last])
        columns[:, 4] = _share(items.brand[shown], items.brand[active.items])
        columns[:, 7] = price - np.log1p(items.price[active.items]).mean()
    return columns


def _same(codes: Int32, code: np.int32) -> Float32:
    """1 where equal, 0 where not, NaN where either is missing (-1)."""
    same = (codes == code).astype(np.float32)
    same[(codes < 0) | (code < 0)] = np.nan
    return same


def _share(codes: Int32, among: Int32) -> Float32:
    """Share of ``among`` that has each code; NaN where the code is missing (-1)."""
    share = (codes[:, None] == among[None, :]).mean(axis=1, dtype=np.float32)
    share[codes < 0] = np.nan
    return share
