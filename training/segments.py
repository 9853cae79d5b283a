"""Shoppers of a like taste: clusters of the user embeddings, and what is popular in each."""

from typing import Final

import numpy as np
from sklearn.cluster import MiniBatchKMeans

from feature_repo.arrays import Float32, Int32
from feature_repo.encoded_log import EncodedLog
from serving.indexes import GroupedLists, Segments
from training.popularity import most_popular_by_group, popularity_weights

USERS_PER_SEGMENT: Final = 300
MOST_SEGMENTS: Final = 64
SEED: Final = 20


def segments(embeddings: Float32) -> tuple[Segments, Int32]:
    """Clusters of unit vectors float32[users, d] by k-means, and the segment of each user, int32[users].

    Users without a vector are in segment 0.
    """
    count = int(np.clip(len(embeddings) // USERS_PER_SEGMENT, 1, MOST_SEGMENTS))
    if not len(embeddings):
        return Segments(embeddings), np.zeros(0, np.int32)
    model = MiniBatchKMeans(count, random_state=SEED, n_init=1, batch_size=4096).fit(embeddings)
    lengths = np.linalg.norm(model.cluster_centers_, axis=1, keepdims=True)
    centroids = (model.cluster_centers_ / np.maximum(lengths, 1e-12)).astype(np.float32)
    return Segments(centroids), np.argmax(embeddings @ centroids.T, axis=1).astype(np.int32)


def segment_popularity(active: EncodedLog, segment: Int32, count: int, as_of: int) -> GroupedLists:
    """What is popular among the shoppers of each of ``count`` segments; segment int32[shoppers], -1 for none."""
    items = len(active.item_ids)
    group = segment[active.shopper]
    inside = group >= 0
    key = group[inside].astype(np.int64) * items + active.item[inside]
    pairs, slot = np.unique(key, return_inverse=True)
    weight = np.bincount(slot, popularity_weights(active, as_of)[inside], minlength=pairs.size).astype(float)
    return most_popular_by_group(pairs % items, pairs // items, weight, count)
