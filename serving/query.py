"""A question to the recommender, in the caller's words and in a bundle's, and the answer."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.arrays import Bool, Float32, Int32
from feature_repo.item_activity import UNKNOWN_ACTIVITY, Activity
from feature_repo.online_user import OnlineUser
from feature_repo.ranking_features import Candidates, Page, ShopperState, UserRow
from feature_repo.schema import CATEGORY_SEPARATOR, EventType, Item
from feature_repo.session_features import UNKNOWN_ITEM, Window, encode_window
from feature_repo.session_window import WindowEvent
from serving.attempt import Rung
from serving.bundle import Bundle
from serving.plan import FOR_ANYTHING, Plan

DEFAULT_SLATE_SIZE: Final = 20


@dataclass(frozen=True)
class Filters:
    """What a request allows: a category path and all below it, brands, a price range. None allows everything."""

    category: str | None = None
    brands: Sequence[str] | None = None
    min_price: float | None = None
    max_price: float | None = None


@dataclass(frozen=True, kw_only=True)
class Question:
    """One request, in ids.

    events: the shopper's window, oldest first; shopper_key: whose batch features to use; as_of: microseconds
    since 1970, UTC; k: length of the slate; context_items and cart: what the page shows, taken as seen and carted
    right now and never recommended; text: what the shopper searches for; repeat_last: whether the newest
    interaction's item may come again; online: batch features that were brought online since the training; plan:
    what the slate is made of; given: the only candidates, where the caller has its own.
    """

    events: Sequence[WindowEvent]
    shopper_key: str | None
    as_of: int
    k: int = DEFAULT_SLATE_SIZE
    context_items: Sequence[str] = ()
    cart: Sequence[str] = ()
    text: str | None = None
    filters: Filters = Filters()
    repeat_last: bool = False
    online: OnlineUser | None = None
    plan: Plan = FOR_ANYTHING
    given: Sequence[str] | None = None

    def encode(self, bundle: Bundle, activity: Activity = UNKNOWN_ACTIVITY) -> "Query":
        """The same question in the indexes of ``bundle``, asked when items have this ``activity``."""
        # The page is newer than every event, also than those of a clock that runs ahead.
        now = max([self.as_of, *(event.timestamp for event in self.events[-1:])])
        events = [
            *self.events,
            *(WindowEvent(now, "", EventType.ADD_TO_CART, item_id) for item_id in self.cart),
            *(WindowEvent(now, "", EventType.VIEW, item_id) for item_id in self.context_items),
        ]
        window = encode_window(events, bundle.item_index)
        user = bundle.user_row(self.shopper_key, window, self.online)
        page = Page(_known(self.context_items, bundle), _known(self.cart, bundle), self.text)
        newest = window.take(slice(len(self.events))).newest_item()
        shown = newest[:0] if self.repeat_last else newest
        return Query(
            shopper=ShopperState(window, user, self.as_of, activity, page),
            k=self.k,
            excluded=np.concatenate([page.items, page.cart, shown]),
            allowed=_all_of(
                _allowed(bundle, self.filters), self._alike(bundle, page), self._beyond(bundle, window, user)
            ),
            plan=self.plan,
            given=None if self.given is None else np.unique(_known(self.given, bundle)),
        )

    def _alike(self, bundle: Bundle, page: Page) -> Bool | None:
        """bool[items]: those that share with the page's item what they must; None for all."""
        if self.plan.same is None or not page.items.size:
            return None
        groups: Int32 = getattr(bundle.items, self.plan.same)
        mine = groups[page.items[0]]
        return None if mine < 0 else groups == mine

    def _beyond(self, bundle: Bundle, window: Window, user: UserRow) -> Bool | None:
        """bool[items]: those of groups that the shopper has not bought from; None for all."""
        if self.plan.beyond is None:
            return None
        groups: Int32 = getattr(bundle.items, self.plan.beyond)
        bought = window.items[(window.types == EventType.PURCHASE.code) & (window.items != UNKNOWN_ITEM)]
        before = user.history.items[user.history.purchases > 0]
        return (groups >= 0) & ~np.isin(groups, groups[np.concatenate([bought, before])])


@dataclass(frozen=True)
class Query:
    """One request, in terms of one bundle: its indexes of items.

    k: length of the slate; excluded int32[m]: items that may not be shown; allowed bool[items]: the items that
    the request's filters leave, None for all; plan: what the slate is made of; given int32[m]: the only candidates,
    which are not filtered, None where they are to be found.
    """

    shopper: ShopperState
    k: int
    excluded: Int32 = field(default_factory=lambda: np.zeros(0, np.int32))
    allowed: Bool | None = None
    plan: Plan = FOR_ANYTHING
    given: Int32 | None = None


@dataclass(frozen=True)
class Slate:
    """An ordered answer and what it was computed from.

    items int32[k'] with scores float32[k'], best first unless the plan asks for caps or diversity; fewer than k
    where the shop has no more that may be shown, or the plan fills up with nothing. ``filled`` of them came from
    popularity because the candidates did not suffice; relaxed: names of the caps that even so could not be kept;
    ranked_by: who put it in order.
    candidates and features (float32[candidates, len(RANKING_COLUMNS)]): all that were ranked.
    """

    items: Int32
    scores: Float32
    filled: int
    candidates: Candidates
    features: Float32
    relaxed: tuple[str, ...] = ()
    ranked_by: Rung = Rung.RANKERS


def _known(item_ids: Sequence[str], bundle: Bundle) -> Int32:
    """Indexes of the items that a bundle knows."""
    return np.array(
        [index for name in item_ids if (index := bundle.item_index.get(name)) is not None], np.int32
    )


def _all_of(*masks: Bool | None) -> Bool | None:
    """What all of them allow."""
    said = [mask for mask in masks if mask is not None]
    return np.logical_and.reduce(said) if said else None


def _allowed(bundle: Bundle, filters: Filters) -> Bool | None:
    if filters == Filters():
        return None
    allowed = np.ones(len(bundle.item_ids), dtype=bool)
    if filters.category is not None:
        below = filters.category + CATEGORY_SEPARATOR
        inside = [path == filters.category or path.startswith(below) for path in bundle.categories]
        inside.append(False)  # what code -1, no category, finds
        allowed &= np.array(inside)[bundle.items.category]
    if filters.brands is not None:
        wanted = pa.array(filters.brands, pa.string())
        allowed &= pc.is_in(bundle.catalog[Item.BRAND], value_set=wanted).to_numpy()
    if filters.min_price is not None:
        allowed &= ~bundle.items.price_missing & (bundle.items.price >= filters.min_price)
    if filters.max_price is not None:
        allowed &= ~bundle.items.price_missing & (bundle.items.price <= filters.max_price)
    return allowed
