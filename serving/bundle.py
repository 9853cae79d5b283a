"""The model bundle: what was trained, in the shop's own indexes, and what it makes of a shopper."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.arrays import Bool, Float32, Float64, Int32, Int64, Strings
from feature_repo.batch_features import USER_STATISTICS
from feature_repo.online_user import OnlineUser
from feature_repo.ranking_features import Interest, ItemColumns, ShopperState, UserRow
from feature_repo.schema import Item
from feature_repo.session_features import Window
from feature_repo.user_history import NO_HISTORY
from feature_repo.user_tower import UserTower
from serving.calibration import UNCALIBRATED, Calibration
from serving.indexes import GroupedLists, Neighbours, PopularityLists, Segments, SessionIndex, UserHistories
from serving.ranking import Rankers
from serving.served.state_journal import StateLayer
from serving.session_encoder import SessionEncoder
from serving.text_index import NO_TEXT, TextIndex
from serving.vector_index import VectorIndex

NOT_YET: Final = np.iinfo(np.int64).max
"""When an item arrived that no event names and whose catalog row has no date."""
UNKNOWN_STATISTICS: Final = np.full(len(USER_STATISTICS), np.nan, dtype=np.float32)


@dataclass(frozen=True)
class Manifest:
    """What a bundle is: times in microseconds since 1970, checksums as SHA-256 of each file."""

    version: str
    created: int
    training_start: int
    training_end: int
    feature_hash: str
    feature_columns: list[str]
    metrics: Mapping[str, object]
    git_revision: str
    checksums: Mapping[str, str]


@dataclass(frozen=True)
class Availability:
    """Which items may be shown: available bool[items]."""

    available: Bool


@dataclass(frozen=True)
class UserColumns:
    """Batch features of the shoppers known at training.

    statistics float32[users, len(USER_STATISTICS)], embeddings float32[users, d].
    """

    statistics: Float32
    embeddings: Float32


@dataclass(frozen=True)
class Bundle:
    """Everything the recommender needs of a trained model, in memory or mapped from disk."""

    manifest: Manifest
    item_ids: Strings
    catalog: pa.Table  # ITEM_SCHEMA, one row per item, in the order of item_ids
    categories: list[str]  # path of each category code
    shopper_keys: Strings
    items: ItemColumns
    availability: Availability
    tower: UserTower
    tower_index: VectorIndex
    encoder: SessionEncoder | None
    encoder_index: VectorIndex  # of nothing without an encoder
    covisited: Neighbours
    walked: Neighbours  # where random walks over covisited end
    bought_together: Neighbours
    alike: Neighbours  # in content
    sessions: SessionIndex
    popularity: PopularityLists
    category_popularity: GroupedLists
    segments: Segments
    segment_popularity: GroupedLists
    users: UserColumns
    user_index: VectorIndex
    histories: UserHistories
    rankers: Rankers
    texts: TextIndex = NO_TEXT
    calibration: Calibration = UNCALIBRATED
    place: str = ""  # where it stands under models/
    states: StateLayer | None = None  # in which what lies over its items is written down

    @property
    def catalog_state(self) -> str | None:
        """Name of the state of the catalog that lies over the items; None where none is certain."""
        return self.states.state if self.states else None

    @cached_property
    def item_index(self) -> dict[str, int]:
        """Index of each item id."""
        return {item_id: index for index, item_id in enumerate(self.item_ids)}

    @cached_property
    def shopper_index(self) -> dict[str, int]:
        """Index of each shopper key."""
        return {key: index for index, key in enumerate(self.shopper_keys)}

    @cached_property
    def listed(self) -> Bool:
        """bool[items]: those that the catalog has, sold out or not; all where the shop has none."""
        sold_out = pc.equal(self.catalog[Item.AVAILABLE], False)  # noqa: FBT003
        return self.availability.available | pc.fill_null(sold_out, fill_value=False).to_numpy()

    @cached_property
    def brand_code(self) -> dict[str, int]:
        """Code of each brand, as the items have it."""
        codes, first = np.unique(self.items.brand, return_index=True)
        names = self.catalog[Item.BRAND].take(pa.array(first)).to_pylist()
        return {name: int(code) for name, code in zip(names, codes, strict=True) if code >= 0}

    @cached_property
    def margin(self) -> Float64:
        """float64[items]: the catalog's margin, NaN where it names none."""
        return self.catalog[Item.MARGIN].to_pandas().to_numpy(dtype=np.float64, na_value=np.nan)

    @cached_property
    def arrived(self) -> Int64:
        """int64[items]: when each came into the shop, in microseconds since 1970, NOT_YET where nobody knows.

        That is when it was created, by the catalog, or else first met.
        """
        met = np.where(self.items.first_seen < 0, NOT_YET, self.items.first_seen)
        created = self.catalog[Item.CREATED_AT].cast(pa.int64())
        return pc.if_else(pc.is_valid(created), created, pa.array(met)).to_numpy()

    @cached_property
    def newest(self) -> Int32:
        """int32[items]: all of them, the newest first; of the same moment in order of the index."""
        return np.argsort(-self.arrived, kind="stable").astype(np.int32)

    def known(self, item_ids: Sequence[str]) -> Int32:
        """int32[m]: the indexes of the items that it knows, in their order."""
        return np.array(
            [index for name in item_ids if (index := self.item_index.get(name)) is not None], np.int32
        )

    def user_row(self, shopper_key: str | None, window: Window, online: OnlineUser | None = None) -> UserRow:
        """Batch features of a shopper: those brought ``online``, else those of the training.

        A vector fits only items of the model that made it. A shopper without a fitting one is folded in from the
        window.
        """
        index = self.shopper_index.get(shopper_key) if shopper_key else None
        statistics, embedding, history = UNKNOWN_STATISTICS, None, NO_HISTORY
        if index is not None:
            statistics, embedding = self.users.statistics[index], self.users.embeddings[index]
            history = self.histories.of(index)
        if online is not None and online.statistics is not None:
            statistics = online.statistics
        if online is not None and online.model_version == self.manifest.version:
            embedding = online.embedding
        if embedding is None:
            active = window.interactions()
            embedding = self.tower.user_vector(active.items, active.types)
        return UserRow(statistics, embedding, history)

    def interest(self, shopper: ShopperState) -> Interest:
        """What this model makes of a shopper."""
        active = shopper.window.interactions()
        expected = None
        if self.encoder is not None:
            expected = self.encoder.expected(self.encoder_index, active, shopper.as_of)
        return Interest(active, self.tower.session_vector(active), expected)
