"""Shoppers of the tiny shop, and what a source brings to them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from feature_repo.ranking_features import NO_PAGE, Candidates, ShopperState
from feature_repo.schema import HOUR, MINUTE
from feature_repo.session_features import encode_window
from feature_repo.session_window import WindowEvent
from serving.bundle import Bundle
from serving.query import Query
from serving.retrieval import RETRIEVERS, retrieve
from serving.sources.source import Reach, Retrieved
from tests.tiny_bundle import NAMES, TRAINED_AT, tiny_bundle, tiny_encoder, with_encoder

NOW = TRAINED_AT + HOUR
TINY = with_encoder(tiny_bundle(), tiny_encoder())
"""The tiny shop with all that its sources need."""
SEARCH = "lamp shade"
"""What every shopper searches for."""


def shopper(*seen: str | tuple[str, ...], key: str | None = None, bundle: Bundle = TINY) -> ShopperState:
    """Who viewed the items, a minute apart, those of a tuple at once; a stranger unless a ``key`` is given."""
    moments = [(names,) if isinstance(names, str) else names for names in seen]
    events = [
        WindowEvent(NOW - (len(moments) - number) * MINUTE, f"e{number}-{place}", "view", name)
        for number, names in enumerate(moments)
        for place, name in enumerate(names)
    ]
    window = encode_window(events, bundle.item_index)
    searching = replace(NO_PAGE, query=SEARCH)
    return ShopperState(window, bundle.user_row(key, window), NOW, page=searching)


def bring(source: str, state: ShopperState, reach: Reach, bundle: Bundle = TINY) -> Retrieved:
    """What a source brings to a shopper."""
    return RETRIEVERS[source](bundle, state, bundle.interest(state), reach)


def found(
    source: str,
    *seen: str | tuple[str, ...],
    quota: int = 100,
    key: str | None = None,
    bundle: Bundle = TINY,
) -> dict[str, Any]:
    """Names and scores that a source brings to who viewed the items, in its order."""
    items, scores = bring(source, shopper(*seen, key=key, bundle=bundle), Reach(quota), bundle)
    assert (items.dtype, scores.dtype) == (np.dtype(np.int32), np.dtype(np.float32))
    return {
        NAMES[item]: pytest.approx(score, rel=1e-5)
        for item, score in zip(items, scores.tolist(), strict=True)
    }


def candidates(state: ShopperState, size: int, allowed: Any = None, bundle: Bundle = TINY) -> Candidates:
    """What all sources bring to a shopper."""
    return retrieve(bundle, Query(state, k=1, allowed=allowed), bundle.interest(state), size)
