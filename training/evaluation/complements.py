"""Complements: on the page of an item of a basket, who tells best what else is bought?"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import scipy.sparse

from feature_repo.arrays import Int32
from feature_repo.encoded_log import EncodedLog
from feature_repo.ranking_features import Page
from serving.bundle import Bundle
from serving.placements import SHIPPED, read_placements
from serving.plan import Plan
from serving.query import Query
from serving.recommender import Recommender
from serving.reranking import fill, may_show
from training.bought_together import baskets
from training.evaluation.methods import Method, slates
from training.evaluation.metrics import Scores
from training.evaluation.results import Comparison, compare, quality_of
from training.neighbours import best_per_row
from training.replay import Replay

COMPLEMENTS: Final = "complements"
ITEM: Final = "item"
COUNTS: Final = "co-purchase counts"
MOST_COUNTED: Final = 100
"""Items, bought most often with each, that counts may choose from."""


@dataclass(frozen=True)
class Complements:
    """Scores of the placements COMPLEMENTS and ITEM and of COUNTS; what the first gains on each of the others."""

    scores: Mapping[str, Scores]
    gain: Mapping[str, Comparison]


def complements(requests: Replay, recommender: Recommender, past: EncodedLog) -> Complements:
    """Answer requests, each with the item that it excludes on its page, by the placements that are shipped.

    ``past`` is what is counted in; both logs have the item codes of the recommender's bundle.
    """
    placements = read_placements(SHIPPED)
    methods = {
        **{name: _placed(recommender, placements[name].plan(None)) for name in (COMPLEMENTS, ITEM)},
        COUNTS: _counted(past, recommender.bundle),
    }
    quality = {
        name: quality_of(slates(requests, recommender.bundle, method, name), requests)
        for name, method in methods.items()
    }
    ours, shopper = quality[COMPLEMENTS], requests.shopper
    return Complements(
        scores={name: Scores.of(one, shopper) for name, one in quality.items()},
        gain={name: compare(ours, quality[name], shopper) for name in (ITEM, COUNTS)},
    )


def _placed(recommender: Recommender, plan: Plan) -> Method:
    """The recommender on a page about what a query excludes."""

    def asked(query: Query) -> Query:
        page = Page(query.excluded, cart=np.zeros(0, np.int32))
        return replace(query, plan=plan, shopper=replace(query.shopper, page=page))

    return lambda queries: [slate.items for slate in recommender.recommend([asked(one) for one in queries])]


def _counted(log: EncodedLog, bundle: Bundle) -> Method:
    """What was bought most often in the visits that bought the page's item, and then what is popular."""
    visits = baskets(log)
    together = scipy.sparse.csr_array(visits.T @ visits)
    together.setdiag(0)
    most = best_per_row(together, MOST_COUNTED)

    def shown(items: Int32, query: Query) -> Int32:
        return items[may_show(items, query.excluded, bundle.availability.available, query.allowed)][: query.k]

    def answer(query: Query) -> Int32:
        found = most.items[query.excluded].ravel()
        items = shown(found[found >= 0], query)
        return fill(items, np.zeros(items.size, np.float32), shown(bundle.popularity.items, query), query.k)[
            0
        ]

    return lambda queries: [answer(query) for query in queries]
