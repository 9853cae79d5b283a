"""The ranking feature matrix: everything the ranker sees of a request's candidates."""

from typing import Final

import numpy as np

from feature_repo.arrays import Float32, Int32
from feature_repo.batch_features import ITEM_STATISTICS, USER_STATISTICS
from feature_repo.candidate_loops import (
    fill_by_source,
    fill_log_days,
    fill_products,
    fill_revisits,
    fill_rows,
    fill_same,
    fill_share,
)
from feature_repo.item_activity import ACTIVITY_FEATURES
from feature_repo.ranking_features import (
    POSITION,
    RANKING_COLUMNS,
    SOURCES,
    Candidates,
    Interest,
    ItemColumns,
    ShopperState,
    UserRow,
)
from feature_repo.schema import DAY, HOUR
from feature_repo.session_features import SESSION_FEATURES, Window, session_features
from feature_repo.user_history import HISTORY_FEATURES, history_features
from feature_repo.user_tower import UserTower, unit


def _columns(first: str, last: str) -> slice:
    """Where the columns from the first to the last stand."""
    return slice(RANKING_COLUMNS.index(first), RANKING_COLUMNS.index(last) + 1)


_BY_SOURCE: Final = _columns(f"{SOURCES[0]}_score", f"{SOURCES[-1]}_relative")
_FUSED: Final = RANKING_COLUMNS.index("fused_score")
_REVISITS: Final = _columns("revisit_count", "revisit_purchased")
_HISTORY: Final = _columns(HISTORY_FEATURES[0], HISTORY_FEATURES[-1])
_EXPECTATIONS: Final = _columns("next_item_log_probability", "next_item_confidence")
_SIMILARITIES: Final = _columns("similarity_last_item", "similarity_user")
_CONTENT_SIMILARITIES: Final = _columns("content_last_item", "content_session")
_RELATIONS: Final = _columns("same_category_last", "price_vs_user")
_STATISTICS: Final = _columns(ITEM_STATISTICS[0], ITEM_STATISTICS[-1])
_FIRST_SEEN: Final = RANKING_COLUMNS.index("item_log_days_since_first_seen")
_LAST_SEEN: Final = RANKING_COLUMNS.index("item_log_days_since_last_seen")
_ACTIVITY: Final = _columns(ACTIVITY_FEATURES[0], ACTIVITY_FEATURES[-1])
_REQUEST: Final = _columns(SESSION_FEATURES[0], POSITION)

_MEAN_PRICE: Final = USER_STATISTICS.index("user_mean_log_price")


def ranking_matrix(
    candidates: Candidates, shopper: ShopperState, interest: Interest, items: ItemColumns, tower: UserTower
) -> Float32:
    """float32[candidates, len(RANKING_COLUMNS)]; NaN marks what does not exist, which LightGBM knows."""
    active, user, as_of = interest.active, shopper.user, shopper.as_of
    shown = candidates.items
    # By columns, as trees read it.
    matrix = np.empty((shown.size, len(RANKING_COLUMNS)), np.float32, order="F")
    fill_by_source(matrix[:, _BY_SOURCE], candidates.scores, candidates.ranks, candidates.relative)
    matrix[:, _FUSED] = candidates.fused
    fill_revisits(matrix[:, _REVISITS], shown, (active.items, active.types, active.times), as_of)
    matrix[:, _HISTORY] = history_features(shown, user.history, as_of)
    _fill_expectations(matrix[:, _EXPECTATIONS], shown, interest)
    _fill_similarities(matrix[:, _SIMILARITIES], shown, interest, user, tower)
    _fill_content_similarities(matrix[:, _CONTENT_SIMILARITIES], shown, active, items)
    _fill_relations(matrix[:, _RELATIONS], shown, active, user, items)
    fill_rows(matrix[:, _STATISTICS], shown, items.statistics)
    fill_log_days(matrix[:, _FIRST_SEEN], shown, items.first_seen, as_of)
    fill_log_days(matrix[:, _LAST_SEEN], shown, items.last_seen, as_of)
    matrix[:, _ACTIVITY] = shopper.activity.features(shown)
    matrix[:, _REQUEST] = _request(shopper)
    return matrix


def _request(shopper: ShopperState) -> Float32:
    """What is the same for all candidates: the session, the shopper, the clock and the first position."""
    as_of = shopper.as_of
    clock = [as_of // HOUR % 24, (as_of // DAY + 3) % 7]
    return np.concatenate(
        [session_features(shopper.window, as_of), shopper.user.statistics, clock, [1]], dtype=np.float32
    )


def _fill_expectations(columns: Float32, shown: Int32, interest: Interest) -> None:
    """Log-probability of each candidate to be next, its distance to that of the best item, and that of the best."""
    if interest.expected is None:
        columns[:] = np.nan
        return
    best = np.float32(interest.expected.best)
    log_probability = interest.expected.log_probability(shown)
    columns[:, 0] = log_probability
    columns[:, 1] = log_probability - best
    columns[:, 2] = best


def _fill_similarities(
    columns: Float32, shown: Int32, interest: Interest, user: UserRow, tower: UserTower
) -> None:
    """Cosine of each candidate with the last item, the session vector and the user vector."""
    queries = np.full((3, tower.embeddings.shape[1]), np.nan, dtype=np.float32)
    if interest.active.items.size:
        queries[0] = tower.embeddings[interest.active.items[-1]]
        queries[1] = interest.session
    queries[2] = user.embedding
    fill_products(columns, shown, tower.embeddings, queries)


def _fill_content_similarities(columns: Float32, shown: Int32, active: Window, items: ItemColumns) -> None:
    """Cosine of each candidate's content with that of the last item and with the mean of the window's."""
    if not active.items.size or not items.content.shape[1]:
        columns[:] = np.nan
        return
    of_window = items.content[active.items]
    queries = np.stack([of_window[-1], unit(of_window.mean(axis=0))])
    fill_products(columns, shown, items.content, queries)


def _fill_relations(
    columns: Float32, shown: Int32, active: Window, user: UserRow, items: ItemColumns
) -> None:
    """Category, brand and price of each candidate against those of the window."""
    price = np.log1p(items.price[shown])
    if active.items.size:
        last = active.items[-1]
        fill_same(columns[:, 0], shown, last, items.category)
        fill_share(columns[:, 1], shown, active.items, items.category)
        fill_share(columns[:, 2], shown, active.items, items.department)
        fill_same(columns[:, 3], shown, last, items.brand)
        fill_share(columns[:, 4], shown, active.items, items.brand)
        columns[:, 7] = price - np.log1p(items.price[active.items]).mean()
    else:
        columns[:] = np.nan
    columns[:, 5] = price
    columns[:, 6] = items.price_missing[shown]
    columns[:, 8] = price - user.statistics[_MEAN_PRICE]
