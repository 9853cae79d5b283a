"""What the ranker sees, schema ``ranking_v1``: the names of its columns, and all that they are made of."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Protocol

import numpy as np

from feature_repo.arrays import Bool, Float32, Int32, Int64
from feature_repo.batch_features import ITEM_STATISTICS, USER_STATISTICS
from feature_repo.item_activity import ACTIVITY_FEATURES, UNKNOWN_ACTIVITY, Activity
from feature_repo.session_features import SESSION_FEATURES, Recent, Window, recent_items
from feature_repo.user_history import HISTORY_FEATURES, NO_HISTORY, UserHistory

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
        columns = (self.items, self.fused, self.scores, self.ranks, self.relative)
        return Candidates(*(column.compress(keep, axis=0) for column in columns))

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
