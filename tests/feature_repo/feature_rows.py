"""Rows of feature views that several tests write."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from feature_repo.arrays import Float32
from feature_repo.batch_features import USER_STATISTICS
from feature_repo.offline_store import SHOPPER_KEY, USER_EMBEDDING, USER_EMBEDDING_VERSION

NOON = 1_750_000_000_123_456


def user_statistics(shoppers: Sequence[str], values: Float32) -> pa.Table:
    """Rows of user_statistics; values float32[shoppers, len(USER_STATISTICS)]."""
    columns = {name: pa.array(values[:, place]) for place, name in enumerate(USER_STATISTICS)}
    return pa.table({SHOPPER_KEY: pa.array(shoppers, pa.string()), **columns})


def same_everywhere(shoppers: Sequence[str], value: float) -> pa.Table:
    """Rows of user_statistics that hold one value in every column."""
    return user_statistics(shoppers, np.full((len(shoppers), len(USER_STATISTICS)), value, np.float32))


def user_embeddings(vectors: Mapping[str, Sequence[float] | None], version: str | None) -> pa.Table:
    """Rows of user_embedding, all of one model version."""
    return pa.table(
        {
            SHOPPER_KEY: pa.array(list(vectors), pa.string()),
            USER_EMBEDDING: pa.array(list(vectors.values()), pa.list_(pa.float32())),
            USER_EMBEDDING_VERSION: pa.array([version] * len(vectors), pa.string()),
        }
    )
