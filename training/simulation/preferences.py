"""What the shoppers of the simulated shop want: the true probability of each next item.

A shopper in state S at time t (day d) picks the next item in one of two ways.

Back to one of the last items j, with odds of w_j against FRESH_WEIGHT for something else::

    w_j = MEMORY_DECAY^age(j) * keenness(j)       age 0 is the newest; keenness 1 once viewed, more once put
                                                  in the cart, less once bought

Or something else, first a leaf of the category tree, then an item in it::

    P(l | S, t)    = softmax_l  leaf_appeal[d, l] + FAVOURITE * [l in favourites]
                              + INTENT_1 * [l = intent_1] + INTENT_2 * [l = intent_2] + NEAR * <s, centre_l>
    P(i | l, S, t) = softmax_i  item_appeal[d, i] + <DRIFT * s + taste, style_i>
                              + BRAND * [brand_i liked] - PRICE * (price_level_i - price_level)^2

``s`` is the session's style: the moving average ``s <- (1 - PULL) s + PULL * style_i`` over the items viewed
in it, 0 at its start. The appeals hold quality, the novelty of an item and the waves of fashion. Items that
are not on sale at t have probability 0, and so has the item just viewed. Hence::

    P(i | S, t) = FRESH_WEIGHT / (FRESH_WEIGHT + sum w) * P(l_i | S, t) P(i | l_i, S, t)
                + w_i / (FRESH_WEIGHT + sum w)
"""

from dataclasses import dataclass, fields
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from feature_repo.schema import DAY
from training.simulation.catalog import BRANDS_PER_DEPARTMENT, STYLES, Catalog

Floats = NDArray[np.float32]
Indices = NDArray[np.integer[Any]]

FAVOURITES: Final = 3
"""Leaves that a shopper comes back to over the months."""
MEMORY: Final = 8
"""Last distinct items that a shopper may go back to."""
EMPTY: Final = -1

FAVOURITE: Final = 1.3
INTENT_1: Final = 3.6
INTENT_2: Final = 3.0
NEAR: Final = 0.3
DRIFT: Final = 0.45
PULL: Final = 0.5
TASTE: Final = 0.32
BRAND: Final = 1.3
PRICE: Final = 0.4
NOVELTY: Final = 1.0
NOVELTY_DAYS: Final = 10.0
LEAF_WAVE: Final = 0.8
ITEM_WAVE: Final = 0.5

MEMORY_DECAY: Final = 0.75
FRESH_WEIGHT: Final = 9.0


@dataclass(frozen=True)
class States:
    """n shoppers, each just before a choice."""

    shopper: Indices  # [n]
    time: NDArray[np.int64]  # [n], microseconds since 1970
    intent: Indices  # [n, 2], leaves
    style: Floats  # [n, STYLES], of the session so far
    memory: Indices  # [n, MEMORY], items, newest first, EMPTY at the end
    keenness: Floats  # [n, MEMORY]
    started: NDArray[np.bool_]  # [n], whether an item was viewed in this session already

    def __len__(self) -> int:
        return len(self.shopper)

    def take(self, rows: NDArray[Any]) -> Self:
        """The states at ``rows`` (positions or a mask)."""
        return type(self)(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    @property
    def just_viewed(self) -> Indices:
        """Item of the shopper's last view in this session, EMPTY before the first; [n]."""
        return np.where(self.started, self.memory[:, 0], EMPTY)


@dataclass(frozen=True)
class Preferences:
    """The whole truth about N items in L leaves and U shoppers; the formulas stand above."""

    start: int
    leaf_start: Indices  # [L + 1]
    leaf_centre: Floats  # [L, STYLES]
    leaf_appeal: Floats  # [days, L]
    item_appeal: Floats  # [days, N]
    style: Floats  # [N, STYLES]
    brand: Indices  # [N]
    price_level: Floats  # [N]
    on_sale_from: NDArray[np.int64]  # [N]
    on_sale_until: NDArray[np.int64]  # [N]
    favourites: Indices  # [U, FAVOURITES]
    taste: Floats  # [U, STYLES]
    liked_brands: NDArray[np.bool_]  # [U, brands]
    shopper_price_level: Floats  # [U]

    @property
    def leaves(self) -> int:
        """Number of leaves."""
        return len(self.leaf_centre)

    @property
    def leaf(self) -> Indices:
        """Leaf of each item, [N]."""
        return np.repeat(np.arange(self.leaves), np.diff(self.leaf_start))

    def day(self, time: NDArray[np.int64]) -> Indices:
        """Row of the appeals that holds at ``time``."""
        return (time - self.start) // DAY

    def on_sale(self, items: Indices, time: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each item can be bought at ``time``; both broadcast."""
        return np.asarray((self.on_sale_from[items] <= time) & (time < self.on_sale_until[items]))

    def fit(self, shopper: Indices, items: Indices) -> Floats:
        """What brand and price add to the utility of ``items`` for ``shopper``; both broadcast."""
        dearer = self.price_level[items] - self.shopper_price_level[shopper]
        return np.asarray(
            BRAND * self.liked_brands[shopper, self.brand[items]] - PRICE * dearer**2, np.float32
        )

    def leaf_utilities(self, states: States) -> Floats:
        """Logits of the leaf of something else, [n, L]."""
        logits = self.leaf_appeal[self.day(states.time)] + NEAR * (states.style @ self.leaf_centre.T)
        rows = np.arange(len(states))
        for favourite in self.favourites[states.shopper].T:
            logits[rows, favourite] += FAVOURITE
        logits[rows, states.intent[:, 0]] += INTENT_1
        logits[rows, states.intent[:, 1]] += INTENT_2
        return logits

    def item_utilities(self, states: States, leaf: int) -> Floats:
        """Logits of the items of one leaf, [n, items of the leaf]; -inf for what cannot be chosen."""
        low, high = int(self.leaf_start[leaf]), int(self.leaf_start[leaf + 1])
        items = np.arange(low, high)
        wanted = DRIFT * states.style + self.taste[states.shopper]
        logits = self.item_appeal[self.day(states.time), low:high] + wanted @ self.style[low:high].T
        logits += self.fit(states.shopper[:, None], items)
        possible = self.on_sale(items, states.time[:, None]) & (states.just_viewed[:, None] != items)
        return np.where(possible, logits, np.float32(-np.inf))

    def memory_weights(self, states: States) -> Floats:
        """Odds of going back to each item of the memory, [n, MEMORY], against FRESH_WEIGHT."""
        possible = (states.memory != EMPTY) & self.on_sale(states.memory, states.time[:, None])
        possible[:, 0] &= ~states.started
        weights = states.keenness * np.float32(MEMORY_DECAY) ** np.arange(MEMORY, dtype=np.float32)
        return np.where(possible, weights, np.float32(0))

    def probabilities(self, states: States) -> Floats:
        """True probability of each item to be the next one, [n, N]; rows sum to 1."""
        weights = self.memory_weights(states)
        total = FRESH_WEIGHT + weights.sum(axis=1)
        leaf = softmax(self.leaf_utilities(states)) * (FRESH_WEIGHT / total)[:, None]
        chances = np.concatenate(
            [leaf[:, one, None] * softmax(self.item_utilities(states, one)) for one in range(self.leaves)],
            axis=1,
        )
        row, slot = np.nonzero(weights)
        chances[row, states.memory[row, slot]] += weights[row, slot] / total[row]
        return chances


def softmax(logits: Floats) -> Floats:
    """Probabilities of each row of logits, [n, m]."""
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def draw_leaf(preferences: Preferences, states: States, rng: np.random.Generator) -> Indices:
    """The leaf of something else for each state, [n]."""
    logits = preferences.leaf_utilities(states)
    return np.argmax(logits + gumbel(logits.shape, rng), axis=1)


def draw_memory(preferences: Preferences, states: States, rng: np.random.Generator) -> Indices:
    """The slot of the memory that each shopper goes back to, [n]; EMPTY for something else."""
    cumulated = np.cumsum(preferences.memory_weights(states), axis=1)
    mark = rng.random(len(states)) * (cumulated[:, -1] + FRESH_WEIGHT)
    slot = np.sum(cumulated <= mark[:, None], axis=1)
    return np.where(slot < MEMORY, slot, EMPTY)


def gumbel(shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """Standard Gumbel noise; added to logits it makes the argmax a draw from their softmax."""
    exponential = rng.standard_exponential(shape, dtype=np.float32)
    return np.asarray(-np.log(np.maximum(exponential, np.finfo(np.float32).tiny)))


def make_preferences(
    catalog: Catalog, shoppers: int, start: int, days: int, rng: np.random.Generator
) -> Preferences:
    """Draw the tastes of ``shoppers`` and the fashions of ``days`` from ``start`` (microseconds since 1970)."""
    items, leaves = len(catalog.item_ids), len(catalog.complement)
    day = np.arange(days, dtype=np.float32)[:, None]
    popularity = rng.normal(0, 0.5, leaves)
    age_days = np.maximum(start / DAY + day - catalog.on_sale_from / DAY, 0)
    return Preferences(
        start=start,
        leaf_start=catalog.leaf_start,
        leaf_centre=catalog.leaf_centre,
        leaf_appeal=(popularity + LEAF_WAVE * _waves(day, leaves, rng)).astype(np.float32),
        item_appeal=(
            catalog.quality + ITEM_WAVE * _waves(day, items, rng) + NOVELTY * np.exp(-age_days / NOVELTY_DAYS)
        ).astype(np.float32),
        style=catalog.style,
        brand=catalog.brand,
        price_level=catalog.price_level,
        on_sale_from=catalog.on_sale_from,
        on_sale_until=catalog.on_sale_until,
        favourites=rng.choice(
            leaves, (shoppers, FAVOURITES), p=np.exp(popularity) / np.exp(popularity).sum()
        ),
        taste=rng.normal(0, TASTE, (shoppers, STYLES)).astype(np.float32),
        # A shopper likes two brands of a department in the mean.
        liked_brands=rng.random((shoppers, len(catalog.brands))) < 2 / BRANDS_PER_DEPARTMENT,
        shopper_price_level=rng.normal(0, 1, shoppers).astype(np.float32),
    )


def _waves(day: Floats, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Rise and fall over the weeks, [days, count]: periods of 3 to 12 weeks, each with its own strength."""
    period = rng.uniform(21, 84, count)
    return np.asarray(
        rng.standard_exponential(count) * np.cos(2 * np.pi * (day / period + rng.random(count)))
    )
