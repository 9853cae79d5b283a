"""What was learned, for the items of a shop: those that were trained, and those that came since."""

from dataclasses import dataclass, replace
from typing import Self, TypeVar

import numpy as np
import pandas as pd
import scipy.sparse

from feature_repo.arrays import Bool, Float32, Int64, Strings
from feature_repo.session_features import UNKNOWN_ITEM
from feature_repo.user_tower import UserTower, unit_rows
from serving.bundle import Bundle
from serving.indexes import Neighbours
from serving.ranking import NO_RANKERS, Rankers
from serving.session_encoder import EncoderItems, SessionEncoder
from training.content import vectors_from_content

Items = TypeVar("Items", UserTower, EncoderItems)


@dataclass(frozen=True)
class Learned:
    """What was trained: the embeddings, the session encoder, the rankers.

    settled: bool[items], those whose vectors stay as they are; None right after a training, when items that few
    have met still get a part of theirs from the catalog.
    """

    tower: UserTower
    encoder: SessionEncoder | None
    rankers: Rankers = NO_RANKERS
    settled: Bool | None = None

    @classmethod
    def of(cls, bundle: Bundle, item_ids: Strings) -> Self:
        """What the training of a bundle learned, for the items of these ids.

        Those that it had not met have no vector, even if the bundle gave them one: more may be known of them now.
        """
        row = pd.Index(bundle.item_ids).get_indexer(pd.Index(item_ids))
        trained = (row >= 0) & (bundle.items.first_seen[row] >= 0)
        encoder = bundle.encoder
        if encoder is not None:
            encoder = replace(encoder, items=_at(encoder.items, row, trained))
        return cls(_at(bundle.tower, row, trained), encoder, bundle.rankers, settled=trained)

    def with_new_items(self, content: Float32, covisited: Neighbours, interactions: Int64) -> "Learned":
        """The same with vectors for items that were never trained, or that few have met.

        An item that was met since the training gets the mean of the items it was met with; then what the catalog
        says counts the more, the fewer have met it. Such items weigh in a window what items usually weigh.
        content float32[items, c] of ``content_vectors``; interactions int64[items].
        """

        def extended(items: Items) -> Items:
            met = vectors_from_covisitation(covisited, items.embeddings)
            embeddings = vectors_from_content(content, met, interactions)
            if self.settled is not None:
                embeddings = np.where(self.settled[:, None], items.embeddings, embeddings)
            new = (items.item_weight == 0) & embeddings.any(axis=1)
            usual = np.median(items.item_weight[items.item_weight > 0]) if new.any() else np.float32(0)
            return replace(items, embeddings=embeddings, item_weight=np.where(new, usual, items.item_weight))

        encoder = self.encoder
        if encoder is not None:
            encoder = replace(encoder, items=extended(encoder.items))
        return replace(self, tower=extended(self.tower), encoder=encoder)


def vectors_from_covisitation(covisited: Neighbours, learned: Float32) -> Float32:
    """``learned``, with the unit mean of its co-visited items, by score, for each that has no vector.

    learned float32[items, d]: unit vectors, zero for items never learned; they stay so without a learned neighbour.
    """
    new = np.flatnonzero(~learned.any(axis=1))
    near, scores = covisited.items[new], covisited.scores[new]
    place, rank = np.nonzero(near != UNKNOWN_ITEM)
    weights = scipy.sparse.csr_array(
        (scores[place, rank], (place, near[place, rank])), shape=(len(new), len(learned))
    )
    vectors = learned.copy()
    vectors[new] = unit_rows(weights @ learned)
    return vectors


def _at(items: Items, row: Int64, known: Bool) -> Items:
    """Items in another order: of each its row where it is ``known``, else nothing."""
    return replace(
        items,
        embeddings=np.where(known[:, None], items.embeddings[row], np.float32(0)),
        item_weight=np.where(known, items.item_weight[row], np.float32(0)),
    )
