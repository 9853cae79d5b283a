"""Composition: what the rules of a plan make of scored candidates, down to the slate.

Filters hold always. Then come pins, then what is explored; caps count both and keep neither out. Boosts, fatigue
and diversity only order what is left.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from feature_repo.arrays import Bool, Float32, Int32
from feature_repo.ranking_features import Candidates
from serving import reranking
from serving.bundle import Bundle
from serving.in_time.attempt import Rung
from serving.plan import FilledBy, Plan, Rule
from serving.query import Query, Slate
from serving.reranking import Cap, Diversity, Explored, Rules

SPARE: Final = 100
"""Popular items that stand by where caps may keep the candidates out."""
MOST_NEW: Final = 100
"""New items, the newest, that are drawn from besides those that the sources bring."""
NOTHING_DRAWN: Final = Explored({}, {})

Places = dict[int, int]
"""What is to stand at places of a slate, from 0."""


def guests(bundle: Bundle, query: Query, candidates: Int32) -> Int32:
    """int32[m]: what rules may want to show besides the candidates: pinned items, and new ones to draw from."""
    wanted = np.array([item for item in query.pinned.values() if item >= 0], np.int32)
    if query.slots():
        wanted = np.concatenate([wanted, _newest(bundle, query)])
    if not wanted.size:
        return wanted
    return np.setdiff1d(wanted[query.may_show(wanted, bundle)], candidates)


class Ranked(NamedTuple):
    """Candidates with features float32[n, len(RANKING_COLUMNS)] and scores float32[n], and by whom."""

    candidates: Candidates
    features: Float32
    scores: Float32
    by: Rung = Rung.RANKERS


def compose(bundle: Bundle, query: Query, ranked: Ranked) -> Slate:
    """The slate of ranked candidates.

    What is only there to be drawn from, and is not drawn, is not shown.
    """
    candidates, features, scores, rung = ranked
    to_draw = _only_to_draw(query, candidates)
    pool, pool_scores = _lengthened(bundle, query, candidates.items[~to_draw], scores[~to_draw])
    waiting = to_draw & ~np.isin(candidates.items, pool) if to_draw.any() else to_draw
    items = np.concatenate([pool, candidates.items[waiting]])
    scores = np.concatenate([pool_scores, scores[waiting]])

    utility = _adjusted(bundle, query, items, scores)
    pins = _pins(query, items)
    free = [place for place in query.slots() if place < pool.size and place not in pins]
    drawn = _drawn(bundle, query, items, utility, free)
    stays = np.arange(items.size) < pool.size
    stays[list(drawn.chance)] = True
    rows = np.flatnonzero(stays)
    fixed = {place: int(stays[:row].sum()) for place, row in {**pins, **drawn.fixed}.items()}
    selection = reranking.select(
        items[rows], utility[rows], query.k, _rules(bundle, query.plan, items[rows], fixed)
    )

    chosen = rows[selection.rows]
    filled = (chosen >= candidates.items.size - to_draw.sum()) & (chosen < pool.size)
    rule_of = {**dict.fromkeys(pins.values(), Rule.PIN), **dict.fromkeys(drawn.chance, Rule.EXPLORE)}
    return Slate(
        items=items[chosen],
        scores=scores[chosen],
        filled=int(filled.sum()),
        candidates=candidates,
        features=features,
        relaxed=(*_missing_pin(query, items[chosen]), *selection.relaxed),
        propensity=np.minimum(drawn.propensity(chosen), 1),
        placed_by=tuple(map(rule_of.get, chosen.tolist())),
        more=rows.size > query.k,
        ranked_by=rung,
    )


def _newest(bundle: Bundle, query: Query) -> Int32:
    """int32[m]: the newest items that may be shown, as far as they are new."""
    new = bundle.newest[: np.count_nonzero(bundle.arrived > query.new_since())]
    return new[query.may_show(new, bundle)][:MOST_NEW]


def _only_to_draw(query: Query, candidates: Candidates) -> Bool:
    """bool[n]: candidates that nobody brought but exploration."""
    if not query.slots() or query.given is not None:
        return np.zeros(candidates.items.size, bool)
    pinned = np.isin(candidates.items, list(query.pinned.values()))
    return np.isnan(candidates.ranks).all(axis=1) & ~pinned


def _lengthened(bundle: Bundle, query: Query, items: Int32, scores: Float32) -> tuple[Int32, Float32]:
    """The candidates and, where they may not suffice for a page and one more, popular items behind them."""
    size = items.size + SPARE if query.plan.caps else query.k + 1
    if items.size >= size or query.plan.filled_by == FilledBy.NOTHING:
        return items, scores
    popular = bundle.popularity.items
    return reranking.fill(items, scores, popular[query.may_show(popular, bundle)], size)


def _adjusted(bundle: Bundle, query: Query, items: Int32, scores: Float32) -> Float32:
    """float32[n]: the scores after boosts and fatigue."""
    for factor, selector in query.plan.boosts:
        chosen = selector.chooses(bundle, items)
        scores = reranking.boosted(scores, np.where(chosen, np.float32(factor), np.float32(1)))
    if query.plan.fatigue is not None:
        tired = reranking.fatigue(items, query.in_vain, query.shopper.as_of, *query.plan.fatigue)
        scores = reranking.boosted(scores, tired)
    return scores


def _pins(query: Query, items: Int32) -> Places:
    """The row of the item that is pinned to a place, where it may be shown."""
    if not query.pinned:
        return {}
    row_of = {item: row for row, item in enumerate(items.tolist())}
    return {place: row_of[item] for place, item in query.pinned.items() if item in row_of}


def _missing_pin(query: Query, shown: Int32) -> tuple[Rule, ...]:
    """Rule.PIN, if a place of the page lacks the item that is pinned to it."""
    at = dict(enumerate(shown.tolist()))
    return () if all(at.get(place) == item for place, item in query.pinned.items()) else (Rule.PIN,)


def _drawn(bundle: Bundle, query: Query, items: Int32, utility: Float32, places: Sequence[int]) -> Explored:
    """New items, by their rows, for these places of the slate."""
    exploration = query.plan.exploration
    if exploration is None or not places:
        return NOTHING_DRAWN
    new = (bundle.arrived[items] > query.new_since()) & ~np.isin(items, list(query.pinned.values()))
    random = np.random.default_rng(query.seed)
    return reranking.explore(utility, np.flatnonzero(new), places, exploration.temperature, random)


def _rules(bundle: Bundle, plan: Plan, items: Int32, fixed: Places) -> Rules:
    diversity = None
    if plan.diversity:
        vectors = reranking.likeness_vectors(bundle.items.content[items], bundle.tower.embeddings[items])
        diversity = Diversity(plan.diversity, vectors, plan.diversity_kind)
    caps = [Cap(group, getattr(bundle.items, group)[items], most) for group, most in plan.caps.items()]
    return Rules(fixed, caps, diversity)
