"""Why an item is in a slate: what the ranker made of it, and a reason that a person understands."""

from typing import Final, NamedTuple

import numpy as np

from feature_repo.arrays import Float32, Int32
from feature_repo.ranking_features import RANKING_COLUMNS, SOURCES
from feature_repo.schema import EventType, Item
from feature_repo.session_features import Window, recent_items
from serving.bundle import Bundle
from serving.in_time.attempt import Rung
from serving.plan import RankedBy, Rule
from serving.query import Query, Slate
from serving.ranking import Ranker, in_session
from serving.sources.source import RECENT_ITEMS

TOP: Final = 5
"""Features that are named of an item."""

_VERBS: Final = {EventType.PURCHASE.code: "bought", EventType.ADD_TO_CART.code: "put into the cart"}
_FROM_SEARCH: Final = {"text"}
_FROM_BASKETS: Final = {"bought_together"}
_FROM_ITSELF: Final = {"revisits", "repeats"}
_FROM_WINDOW: Final = {
    "last_item_covisitation",
    "covisitation",
    "random_walk",
    "session_neighbours",
    "next_item",
    "session_embedding",
    "content",
}
_FROM_TASTE: Final = {"user_embedding", "similar_users", "segment_popular"}


class Contribution(NamedTuple):
    """By how much a feature of this value raised an item's score, or lowered it."""

    feature: str
    value: float
    contribution: float


class Reason(NamedTuple):
    """A sentence, and the index of the item that it rests on, if it rests on one."""

    text: str
    item: int | None = None


_BY_RULE: Final = {Rule.PIN: Reason("chosen by the shop"), Rule.EXPLORE: Reason("new in the shop")}


class Explanation(NamedTuple):
    """contributions: the TOP features, the strongest first; none where no ranker ordered the item."""

    reason: Reason
    contributions: list[Contribution]


def explain(bundle: Bundle, query: Query, slate: Slate) -> list[Explanation]:
    """An explanation of each item of the slate."""
    place = {item: row for row, item in enumerate(slate.candidates.items.tolist())}
    rows = [place.get(item) for item in slate.items.tolist()]
    ranked = [row for row in rows if row is not None]
    by_rankers = (
        slate.ranked_by in {Rung.RANKERS, Rung.FIRST_TREES} and query.plan.ranked_by != RankedBy.SOURCES
    )
    contributions = iter(
        _contributions(bundle, slate.features[ranked]) if by_rankers else [[] for _ in ranked]
    )
    return [
        Explanation(Reason("popular in the shop"), [])
        if row is None
        else Explanation(_BY_RULE[rule] if rule else _reason(bundle, query, slate, row), next(contributions))
        for row, rule in zip(rows, slate.placed_by, strict=True)
    ]


def _contributions(bundle: Bundle, features: Float32) -> list[list[Contribution]]:
    """The TOP contributions of each row; SHAP values (Lundberg et al., Nature Machine Intelligence 2020)."""
    live = in_session(features)
    found: list[list[Contribution]] = [[] for _ in features]
    for ranker, rows in (
        (bundle.rankers.session, np.flatnonzero(live)),
        (bundle.rankers.arrival, np.flatnonzero(~live)),
    ):
        if ranker is not None and rows.size:
            for row, values in zip(rows, _shap(ranker, features[rows]), strict=True):
                top = np.argsort(-np.abs(values), kind="stable")[:TOP]
                found[row] = [
                    Contribution(RANKING_COLUMNS[column], float(features[row, column]), float(values[column]))
                    for column in top
                    if values[column]
                ]
    return found


def _shap(ranker: Ranker, features: Float32) -> Float32:
    """float32[n, len(RANKING_COLUMNS)]; the last column of what LightGBM says is the mean."""
    said = ranker.booster.predict(features, pred_contrib=True, num_threads=1)
    return np.asarray(said, dtype=np.float32)[:, :-1]


def _reason(bundle: Bundle, query: Query, slate: Slate, row: int) -> Reason:
    """The first that holds, from what the shopper asked for to what all like."""
    item = int(slate.candidates.items[row])
    brought = {name for name, rank in zip(SOURCES, slate.candidates.ranks[row], strict=True) if rank >= 0}
    page, active = query.shopper.page, query.shopper.window.interactions()
    if brought & _FROM_SEARCH:
        return Reason("fits the search")
    about = np.union1d(page.items, page.cart).astype(np.int32)
    if brought & _FROM_BASKETS and about.size:
        anchor = _nearest(bundle, item, about)
        return Reason(f"goes with {_name(bundle, anchor)}", anchor)
    if brought & _FROM_ITSELF:
        return Reason("you were interested in it before")
    if brought & (_FROM_WINDOW | _FROM_BASKETS) and active.items.size:
        anchor = _nearest(bundle, item, recent_items(active).items[:RECENT_ITEMS])
        return Reason(f"because you {_verb(active, anchor)} {_name(bundle, anchor)}", anchor)
    return Reason(_what_others_like(bundle, item, brought))


def _what_others_like(bundle: Bundle, item: int, brought: set[str]) -> str:
    if brought & _FROM_TASTE:
        return "shoppers of a like taste want it"
    if "category_popular" in brought:
        return f"popular in {bundle.categories[bundle.items.category[item]]}"
    return "on the rise in the shop" if "trending" in brought else "popular in the shop"


def _nearest(bundle: Bundle, item: int, among: Int32) -> int:
    """The one of several items that an item is most met or bought with, or else is most alike."""
    for neighbours in (bundle.covisited, bundle.bought_together, bundle.walked):
        scores = np.where(neighbours.items[among] == item, neighbours.scores[among], 0).max(axis=1)
        if scores.any():
            return int(among[scores.argmax()])
    return int(among[(bundle.tower.embeddings[among] @ bundle.tower.embeddings[item]).argmax()])


def _verb(active: Window, item: int) -> str:
    """What the shopper last did with an item."""
    newest = np.flatnonzero(active.items == item)[-1]
    return _VERBS.get(int(active.types[newest]), "viewed")


def _name(bundle: Bundle, item: int) -> str:
    return str(bundle.catalog[Item.TITLE][item].as_py() or bundle.item_ids[item])
