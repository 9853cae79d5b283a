"""The walk of all shoppers through the simulated shop, in lock-step: choices, and what follows from them.

Step k of every shopper is drawn at once, so the number of array operations grows with the busiest
shopper and the number of leaves, not with the number of events.
"""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from training.simulation.catalog import STYLES, Catalog
from training.simulation.preferences import (
    EMPTY,
    MEMORY,
    PULL,
    Floats,
    Preferences,
    States,
    draw_leaf,
    draw_memory,
    gumbel,
    softmax,
)
from training.simulation.visits import Visits

SLATE_SIZE: Final = 6
SLATE_SHARE: Final = 0.15
"""Share of the steps in which a slate is shown and the shopper chooses from it, or nothing."""
EXAMINATION: Final = 1 / np.arange(1, SLATE_SIZE + 1) ** 0.8
"""Probability that a shopper looks at each position of a slate."""
POLICY_POPULARITY: Final = 0.7
"""How much of an item's appeal the old policy follows; 0 would be uniform."""
LEAVE_SLATE: Final = 0.1
"""Weight of clicking nothing, against the examined share of what the shopper would pick in the leaf."""

CART_LOGIT: Final = -2.4
RETURNED_TO: Final = 0.9
"""Added to the logit of the cart for an item that the shopper went back to."""
PURCHASE_SHARE: Final = 0.4
REMOVE_SHARE: Final = 0.25
FAVORITE_SHARE: Final = 0.05
KEEN: Final = 3.0
BOUGHT: Final = 0.15
FOLLOW_VIEW: Final = 0.5
"""Probability that the intent moves to the leaf of an item viewed outside of it."""
FAVOURITE_INTENT: Final = 0.65
RELATED_INTENT: Final = 0.5


@dataclass(frozen=True)
class Steps:
    """What happened in each step of the visits; items are EMPTY where nothing was chosen."""

    states: States  # [steps], just before the choice
    item: NDArray[np.int32]  # [steps]
    shown: NDArray[np.int32]  # [steps, SLATE_SIZE], EMPTY where nothing was shown
    returned_to: NDArray[np.bool_]  # [steps], whether the item was picked from memory
    favorite: NDArray[np.bool_]  # [steps]
    cart: NDArray[np.bool_]  # [steps]
    purchase: NDArray[np.bool_]  # [steps]
    remove: NDArray[np.bool_]  # [steps]

    @classmethod
    def empty(cls, visits: Visits) -> Self:
        """Room for the steps of ``visits``; all to be filled but who comes when."""
        steps = len(visits)
        states = States(
            shopper=visits.shopper,
            time=visits.time,
            intent=np.zeros((steps, 2), np.int16),
            style=np.zeros((steps, STYLES), np.float32),
            memory=np.full((steps, MEMORY), EMPTY, np.int32),
            keenness=np.zeros((steps, MEMORY), np.float32),
            started=np.zeros(steps, np.bool_),
        )
        return cls(
            states,
            np.full(steps, EMPTY, np.int32),
            np.full((steps, SLATE_SIZE), EMPTY, np.int32),
            *(np.zeros(steps, np.bool_) for _ in range(5)),
        )


def walk(preferences: Preferences, catalog: Catalog, visits: Visits, rng: np.random.Generator) -> Steps:
    """Let every shopper make all their steps."""
    steps = Steps.empty(visits)
    count, first_steps = visits.steps_per_shopper, visits.first_steps
    rounds = int(count[0])
    present = np.searchsorted(-count, -np.arange(rounds), side="left")  # shoppers with a step k
    for k in tqdm(range(rounds), desc="simulating", unit="step", delay=3):
        rows = first_steps[: present[k]] + k
        opening = rows[visits.first[rows]]
        _open_sessions(steps.states, opening, preferences, catalog, rng)
        choose(preferences, steps, rows, rng)
        _act(preferences, steps, rows, rng)
        goes_on = rows[: present[k + 1]] if k + 1 < rounds else rows[:0]
        _carry_over(steps, goes_on, preferences, catalog, rng)
    return steps


def _open_sessions(
    states: States,
    rows: NDArray[np.int64],
    preferences: Preferences,
    catalog: Catalog,
    rng: np.random.Generator,
) -> None:
    """Draw what the sessions that open at ``rows`` are about."""
    appeal = preferences.leaf_appeal[preferences.day(states.time[rows])]
    anything = np.argmax(appeal + gumbel(appeal.shape, rng), axis=1)
    favourites = preferences.favourites[states.shopper[rows]]
    one, other = rng.integers(0, favourites.shape[1], (2, len(rows)))
    each = np.arange(len(rows))
    first = np.where(rng.random(len(rows)) < FAVOURITE_INTENT, favourites[each, one], anything)
    related = rng.random(len(rows)) < RELATED_INTENT
    states.intent[rows, 0] = first
    states.intent[rows, 1] = np.where(related, catalog.complement[first], favourites[each, other])
    states.style[rows] = 0
    states.started[rows] = False


def choose(preferences: Preferences, steps: Steps, rows: NDArray[np.int64], rng: np.random.Generator) -> None:
    """Draw the item of each step in ``rows``: from a slate, from memory, or something else."""
    states = steps.states.take(rows)
    from_slate = rng.random(len(rows)) < SLATE_SHARE
    slot = draw_memory(preferences, states, rng)
    back = ~from_slate & (slot != EMPTY)
    steps.returned_to[rows] = back
    steps.item[rows[back]] = states.memory[back, slot[back]]

    leaf = np.where(from_slate, states.intent[:, 0], draw_leaf(preferences, states, rng))
    fresh = np.flatnonzero(~back)
    fresh = fresh[np.argsort(leaf[fresh], kind="stable")]
    cuts = np.flatnonzero(np.diff(leaf[fresh])) + 1
    for group in np.split(fresh, cuts) if len(fresh) else ():
        one = int(leaf[group[0]])
        low = preferences.leaf_start[one]
        utilities = preferences.item_utilities(states.take(group), one)
        slated = from_slate[group]
        alone = np.argmax(utilities[~slated] + gumbel(utilities[~slated].shape, rng), axis=1)
        steps.item[rows[group[~slated]]] = low + alone
        if slated.any():
            appeal = preferences.item_appeal[preferences.day(states.time[group[slated]])]
            appeal = appeal[:, low : low + utilities.shape[1]]
            shown, clicked = draw_slate(utilities[slated], appeal, rng)
            steps.shown[rows[group[slated]], : shown.shape[1]] = np.where(shown == EMPTY, EMPTY, low + shown)
            steps.item[rows[group[slated]]] = np.where(clicked == EMPTY, EMPTY, low + clicked)


def draw_slate(
    utilities: Floats, appeal: Floats, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Slates of the old policy from one leaf of m items, and the click on each.

    The policy draws without replacement from softmax(POLICY_POPULARITY * appeal), in the order of positions;
    the shopper clicks with odds of EXAMINATION[position] * P(item | leaf) against LEAVE_SLATE for nothing.
    Both inputs are [n, m]; returns the items shown [n, min(m, SLATE_SIZE)] and clicked [n], EMPTY for none.
    """
    possible = np.isfinite(utilities)
    scores = np.where(possible, POLICY_POPULARITY * appeal + gumbel(appeal.shape, rng), -np.inf)
    shown = np.argsort(-scores, axis=1)[:, :SLATE_SIZE]
    attraction = np.take_along_axis(softmax(utilities), shown, axis=1) * EXAMINATION[: shown.shape[1]]
    shown = np.where(np.take_along_axis(possible, shown, axis=1), shown, EMPTY)
    cumulated = np.cumsum(attraction, axis=1)
    mark = rng.random(len(shown)) * (cumulated[:, -1] + LEAVE_SLATE)
    position = np.sum(cumulated <= mark[:, None], axis=1)
    clicked = position < shown.shape[1]
    rows = np.arange(len(shown))
    return shown, np.where(clicked, shown[rows, np.where(clicked, position, 0)], EMPTY)


def _act(preferences: Preferences, steps: Steps, rows: NDArray[np.int64], rng: np.random.Generator) -> None:
    """Draw what each shopper does with the item chosen: a favourite, the cart, a purchase or second thoughts."""
    chosen = rows[steps.item[rows] != EMPTY]
    logit = CART_LOGIT + preferences.fit(steps.states.shopper[chosen], steps.item[chosen])
    logit += RETURNED_TO * steps.returned_to[chosen]
    favorite, cart, outcome = rng.random((3, len(chosen)))
    in_cart = cart < 1 / (1 + np.exp(-logit))
    steps.favorite[chosen] = favorite < FAVORITE_SHARE
    steps.cart[chosen] = in_cart
    steps.purchase[chosen] = in_cart & (outcome < PURCHASE_SHARE)
    steps.remove[chosen] = in_cart & (outcome > 1 - REMOVE_SHARE)


def _carry_over(
    steps: Steps,
    rows: NDArray[np.int64],
    preferences: Preferences,
    catalog: Catalog,
    rng: np.random.Generator,
) -> None:
    """Write the state after each step of ``rows`` as the state before the next step of the same shopper."""
    states, following = steps.states, rows + 1
    for column in (states.intent, states.style, states.memory, states.keenness, states.started):
        column[following] = column[rows]
    rows = rows[steps.item[rows] != EMPTY]
    following, item = rows + 1, steps.item[rows]

    slots = np.arange(MEMORY)
    same = states.memory[rows] == item[:, None]
    depth = np.where(same.any(axis=1), same.argmax(axis=1), MEMORY - 1)[:, None]
    was_keen = np.where(same, states.keenness[rows], 0).max(axis=1)
    for column, newest in (
        (states.memory, item),
        (states.keenness, _keenness(steps, rows, was_keen)),
    ):
        now = column[rows]
        moved = np.where(slots <= depth, np.roll(now, 1, axis=1), now)
        moved[:, 0] = newest
        column[following] = moved

    states.started[following] = True
    states.style[following] = (1 - PULL) * states.style[rows] + PULL * preferences.style[item]
    leaf, bought = preferences.leaf[item], steps.purchase[rows]
    first = states.intent[rows, 0]
    moves = (leaf != first) & (rng.random(len(rows)) < FOLLOW_VIEW)
    states.intent[following, 0] = np.where(bought, catalog.complement[leaf], np.where(moves, leaf, first))
    states.intent[following, 1] = np.where(
        bought | moves, np.where(bought, leaf, first), states.intent[rows, 1]
    )


def _keenness(steps: Steps, rows: NDArray[np.int64], before: Floats) -> NDArray[np.float64]:
    """How much each shopper wants to come back to the item of the step, [n]."""
    kept = steps.favorite[rows] | (steps.cart[rows] & ~steps.remove[rows])
    keen = np.maximum(np.where(kept, KEEN, 1.0), before)
    return np.where(steps.purchase[rows], BOUGHT, keen)
