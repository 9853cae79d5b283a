"""A question to the recommender, in the caller's words and in a bundle's, and the answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from feature_repo.arrays import Bool, Float32, Float64, Int32
from feature_repo.item_activity import UNKNOWN_ACTIVITY, Activity
from feature_repo.online_user import OnlineUser
from feature_repo.ranking_features import Candidates, Page, ShopperState, UserRow
from feature_repo.schema import EventType
from feature_repo.session_features import UNKNOWN_ITEM, Window, encode_window
from feature_repo.session_window import WindowEvent
from serving import reranking
from serving.bundle import Bundle
from serving.in_time.attempt import Rung
from serving.plan import FOR_ANYTHING, Plan, Rule
from serving.selector import EVERYTHING_ALLOWED, Selector

DEFAULT_SLATE_SIZE: Final = 20


@dataclass(frozen=True)
class Filters:
    """What a request allows: a category path and all below it, brands, a price range. None allows everything."""

    category: str | None = None
    brands: Sequence[str] | None = None
    min_price: float | None = None
    max_price: float | None = None

    def selector(self) -> Selector:
        """What they allow, among a bundle's items."""
        return Selector(
            categories=None if self.category is None else (self.category,),
            brands=self.brands,
            min_price=self.min_price,
            max_price=self.max_price,
        )


@dataclass(frozen=True, kw_only=True)
class Question:
    """One request, in ids.

    events: the shopper's window, oldest first; shopper_key: whose batch features to use; as_of: microseconds
    since 1970, UTC; k: length of the slate; context_items and cart: what the page shows, taken as seen and carted
    right now and never recommended; text: what the shopper searches for; repeat_last: whether the newest
    interaction's item may come again; online: batch features that were brought online since the training; plan:
    what the slate is made of; given: the only candidates, where the caller has its own; exposures: when items were
    last shown to the shopper; shown: what earlier pages of the listing have shown, none of which comes again; seed:
    of all that is drawn.
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
    exposures: Mapping[str, int] = field(default_factory=dict)
    shown: Sequence[str] = ()
    seed: int = 0

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
        page = Page(bundle.known(self.context_items), bundle.known(self.cart), self.text)
        newest = window.take(slice(len(self.events))).newest_item()
        just_seen = newest[:0] if self.repeat_last else newest
        return Query(
            shopper=ShopperState(window, user, self.as_of, activity, page),
            k=self.k,
            excluded=np.concatenate([page.items, page.cart, just_seen, bundle.known(self.shown)]),
            allowed=_all_of(
                _allowed(bundle, self.filters.selector()),
                _allowed(bundle, self.plan.allowed),
                self._alike(bundle, page),
                self._beyond(bundle, window, user, page),
            ),
            plan=self.plan,
            given=None if self.given is None else np.unique(bundle.known(self.given)),
            pinned=self._pinned(bundle),
            in_vain=_last_in_vain(self.exposures, window, bundle) if self.plan.fatigue else {},
            offset=len(self.shown),
            seed=self.seed,
        )

    def _pinned(self, bundle: Bundle) -> dict[int, int]:
        """The items that are to hold places of this page, by the place on it; UNKNOWN_ITEM for a stranger."""
        return {
            place - len(self.shown): bundle.item_index.get(item_id, UNKNOWN_ITEM)
            for place, item_id in self.plan.pins.items()
            if 0 <= place - len(self.shown) < self.k and item_id not in self.shown
        }

    def _alike(self, bundle: Bundle, page: Page) -> Bool | None:
        """bool[items]: those that share with the page's item what they must; None for all."""
        if self.plan.same is None or not page.items.size:
            return None
        groups: Int32 = getattr(bundle.items, self.plan.same)
        mine = groups[page.items[0]]
        return None if mine < 0 else groups == mine

    def _beyond(self, bundle: Bundle, window: Window, user: UserRow, page: Page) -> Bool | None:
        """bool[items]: those of groups that the shopper has not bought from, nor is about to; None for all."""
        if self.plan.beyond is None:
            return None
        groups: Int32 = getattr(bundle.items, self.plan.beyond)
        bought = window.items[(window.types == EventType.PURCHASE.code) & (window.items != UNKNOWN_ITEM)]
        before = user.history.items[user.history.purchases > 0]
        return (groups >= 0) & ~np.isin(groups, groups[np.concatenate([bought, before, page.cart])])


@dataclass(frozen=True)
class Query:
    """One request, in terms of one bundle: its indexes of items.

    k: length of the slate; excluded int32[m]: items that may not be shown; allowed bool[items]: the items that
    the filters leave, None for all; plan: what the slate is made of; given int32[m]: the only candidates, which are
    not filtered, None where they are to be found; pinned: the item that is to hold a place of the slate, by the
    place, from 0, UNKNOWN_ITEM where the model does not know it; in_vain: when an item was last shown that the
    shopper did not turn to since; offset: items on earlier pages; seed: of all that is drawn.
    """

    shopper: ShopperState
    k: int
    excluded: Int32 = field(default_factory=lambda: np.zeros(0, np.int32))
    allowed: Bool | None = None
    plan: Plan = FOR_ANYTHING
    given: Int32 | None = None
    pinned: Mapping[int, int] = field(default_factory=dict)
    in_vain: Mapping[int, int] = field(default_factory=dict)
    offset: int = 0
    seed: int = 0

    def may_show(self, items: Int32, bundle: Bundle) -> Bool:
        """bool[n]: which of the items int32[n] may be in the slate; what the caller gave, it may show."""
        if self.given is not None:
            return np.isin(items, self.given)
        return reranking.may_show(items, self.excluded, bundle.availability.available, self.allowed)

    def slots(self) -> list[int]:
        """Places of this page, from 0, that are given to new items."""
        if self.plan.exploration is None:
            return []
        places = (place - self.offset for place in self.plan.exploration.places)
        return [place for place in places if 0 <= place < self.k]

    def new_since(self) -> int:
        """From which moment on, in microseconds since 1970, an item must have arrived to be new."""
        return self.shopper.as_of - (self.plan.exploration.newer_than if self.plan.exploration else 0)


@dataclass(frozen=True)
class Slate:
    """An ordered answer and what it was computed from.

    items int32[k'] with scores float32[k'], best first unless the plan has rules; fewer than k where the shop has
    no more that may be shown, or the plan fills up with nothing. ``filled`` of them came from popularity because
    the candidates did not suffice; relaxed: Rule.PIN and the groups of caps that could not be kept; candidates and
    features (float32[candidates, len(RANKING_COLUMNS)]): all that were ranked; propensity float64[k']: the chance
    of each item to be drawn, 1 of what was not; placed_by: the rule that gave each its place, None for its merit;
    more: whether there is something to show on the next page; ranked_by: who put the candidates in order.
    """

    items: Int32
    scores: Float32
    filled: int
    candidates: Candidates
    features: Float32
    relaxed: tuple[str, ...]
    propensity: Float64
    placed_by: tuple[Rule | None, ...]
    more: bool
    ranked_by: Rung = Rung.RANKERS


def _all_of(*masks: Bool | None) -> Bool | None:
    """What all of them allow."""
    said = [mask for mask in masks if mask is not None]
    return np.logical_and.reduce(said) if said else None


def _allowed(bundle: Bundle, selector: Selector) -> Bool | None:
    return None if selector == EVERYTHING_ALLOWED else selector.chooses(bundle)


def _last_in_vain(exposures: Mapping[str, int], window: Window, bundle: Bundle) -> dict[int, int]:
    """When each item was last shown, of those that the shopper did not turn to since, by index."""
    active = window.interactions()
    turned_to = dict(zip(active.items.tolist(), active.times.tolist(), strict=True))  # the newest of each
    shown = ((bundle.item_index.get(name), moment) for name, moment in exposures.items())
    return {item: moment for item, moment in shown if item is not None and turned_to.get(item, -1) < moment}
