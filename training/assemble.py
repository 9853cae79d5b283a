"""From a log, a catalog and what was learned to a bundle, as of a moment T."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse

from feature_repo.arrays import Bool, Float32, Int32, Strings
from feature_repo.batch_features import first_and_last_seen, impute_prices, item_statistics, user_statistics
from feature_repo.encoded_log import EncodedLog
from feature_repo.ranking_features import ItemColumns
from feature_repo.schema import CATEGORY_SEPARATOR, ITEM_SCHEMA, Event, Item
from feature_repo.user_tower import UserTower, unit_rows
from serving.bundle import Availability, Bundle, Manifest, UserColumns
from serving.indexes import Neighbours, PopularityLists
from serving.text_index import TextIndex
from serving.vector_index import NO_VECTORS, VectorIndex
from training.bought_together import bought_together
from training.content import content_neighbours, content_vectors
from training.covisitation import covisitation
from training.learned import Learned
from training.popularity import category_popularity, most_popular, most_trending, popularity
from training.random_walks import random_walks
from training.segments import segment_popularity, segments
from training.session_index import session_index
from training.user_histories import user_histories


@dataclass(frozen=True)
class Shop:
    """The items of a shop in the order of their codes.

    catalog: ITEM_SCHEMA, a row for each of item_ids; category, department, brand: int32[items] codes, -1 for none;
    categories: path of each category code; listed: bool[items], False for an item that the catalog lacks though the
    shop has one (a mistyped id, or one that is no longer sold): it is learned from, but not recommended.
    """

    item_ids: Strings
    catalog: pa.Table
    categories: list[str]
    category: Int32
    department: Int32
    brand: Int32
    listed: Bool

    @cached_property
    def texts(self) -> TextIndex:
        """What the items are called, to search in."""
        columns = (self.catalog[name].to_pylist() for name in (Item.TITLE, Item.BRAND, Item.CATEGORY))
        tags = (" ".join(filter(None, of_item or ())) for of_item in self.catalog[Item.TAGS].to_pylist())
        return TextIndex.of([" ".join(filter(None, said)) for said in zip(*columns, tags, strict=True)])

    @cached_property
    def content(self) -> Float32:
        """float32[items, c]: unit vectors of what the catalog says of the items."""
        return content_vectors(self.catalog)

    @cached_property
    def available(self) -> Bool:
        """bool[items]: those that may be recommended."""
        return pc.fill_null(self.catalog[Item.AVAILABLE], fill_value=True).to_numpy() & self.listed

    @cached_property
    def alike(self) -> Neighbours:
        """The available items that are most like each item, by what the catalog says."""
        return content_neighbours(self.content, self.available)

    @cached_property
    def alike_listed(self) -> Neighbours:
        """The same among all that the catalog lists, sold out or not."""
        return content_neighbours(self.content, self.listed)


def describe_shop(events: pa.Table, catalog: pa.Table) -> Shop:
    """All items of the catalog and of the events, sorted by id; items without a catalog row get an empty one."""
    ids = pc.unique(pa.chunked_array([*events[Event.ITEM].chunks, *catalog[Item.ID].chunks], pa.string()))
    item_ids = np.sort(ids.drop_null().to_numpy(zero_copy_only=False))
    rows = pd.Index(catalog[Item.ID].to_pandas()).get_indexer(item_ids)
    aligned = catalog.take(pa.array(rows, mask=rows < 0))
    aligned = aligned.set_column(0, ITEM_SCHEMA.field(Item.ID), pa.array(item_ids, pa.string()))
    paths = aligned[Item.CATEGORY].to_pandas()
    category, categories = pd.factorize(paths, sort=True)
    department, _ = pd.factorize(paths.str.split(CATEGORY_SEPARATOR).str[0], sort=True)
    brand, _ = pd.factorize(aligned[Item.BRAND].to_pandas(), sort=True)
    return Shop(
        item_ids=item_ids,
        catalog=aligned.combine_chunks(),
        categories=list(categories),
        category=category.astype(np.int32),
        department=department.astype(np.int32),
        brand=brand.astype(np.int32),
        listed=(rows >= 0) if catalog.num_rows else np.ones(len(item_ids), dtype=bool),
    )


def assemble(log: EncodedLog, shop: Shop, manifest: Manifest, learned: Learned, *, as_of: int) -> Bundle:
    """A bundle of what was ``learned`` and of all that is counted from the events before ``as_of`` (microseconds).

    The models must have been trained on no later events either; of earlier ones, those that came after their
    training still give vectors to new items.
    """
    log = log.before(as_of)
    active, covisited = log.interactions(), covisitation(log)
    interactions = np.bincount(active.item, minlength=len(shop.item_ids))
    learned = learned.with_new_items(shop.content, covisited, interactions)
    known = np.bincount(active.shopper, minlength=len(log.shopper_keys)) > 0
    items, share = item_columns(log, shop, as_of), popularity(active, as_of)
    embeddings = user_embeddings(active, learned.tower)[known]
    groups, segment = segments(embeddings)
    segment_of_all = np.full(len(log.shopper_keys), -1, np.int32)
    segment_of_all[known] = segment
    return Bundle(
        manifest=manifest,
        item_ids=shop.item_ids,
        catalog=shop.catalog,
        categories=shop.categories,
        shopper_keys=log.shopper_keys[known],
        items=items,
        availability=Availability(shop.available),
        tower=learned.tower,
        tower_index=VectorIndex.of(learned.tower.embeddings),
        encoder_index=NO_VECTORS
        if learned.encoder is None
        else VectorIndex.of(learned.encoder.items.embeddings),
        encoder=learned.encoder,
        covisited=covisited,
        walked=random_walks(covisited),
        bought_together=bought_together(log),
        alike=shop.alike,
        sessions=session_index(log),
        popularity=PopularityLists(*most_popular(share), *most_trending(active, as_of)),
        category_popularity=category_popularity(share, shop.category, len(shop.categories)),
        segments=groups,
        segment_popularity=segment_popularity(active, segment_of_all, len(groups.centroids), as_of),
        users=UserColumns(user_statistics(log, as_of, items.price)[known], embeddings),
        user_index=VectorIndex.of(embeddings),
        histories=user_histories(log, known),
        rankers=learned.rankers,
        texts=shop.texts,
    )


def item_columns(log: EncodedLog, shop: Shop, as_of: int) -> ItemColumns:
    """The ranker's item columns."""
    price, price_missing = item_prices(log, shop)
    first_seen, last_seen = first_and_last_seen(log, as_of)
    return ItemColumns(
        statistics=item_statistics(log, as_of),
        first_seen=first_seen,
        last_seen=last_seen,
        category=shop.category,
        department=shop.department,
        brand=shop.brand,
        price=price,
        price_missing=price_missing,
        content=shop.content,
    )


def item_prices(log: EncodedLog, shop: Shop) -> tuple[Float32, Bool]:
    """float32[items]: the catalog's price, else the mean paid, else the category's median.

    bool[items]: where it is only the median.
    """
    prices = shop.catalog[Item.PRICE].to_pandas().to_numpy(dtype=np.float32, na_value=np.nan)
    prices = np.where(np.isnan(prices), _mean_event_price(log), prices)
    return impute_prices(prices, shop.category), np.isnan(prices)


def user_embeddings(active: EncodedLog, tower: UserTower) -> Float32:
    """float32[shoppers, d]: ``tower.user_vector`` of every shopper's interactions at once."""
    weight = np.exp(tower.event_type[active.type]) * tower.item_weight[active.item]
    shape = (len(active.shopper_keys), len(active.item_ids))
    sums = scipy.sparse.csr_array((weight, (active.shopper, active.item)), shape=shape) @ tower.embeddings
    return unit_rows(sums).astype(np.float32)


def _mean_event_price(log: EncodedLog) -> Float32:
    priced = ~np.isnan(log.price) & (log.item >= 0)
    items = len(log.item_ids)
    counts = np.bincount(log.item[priced], minlength=items)
    sums = np.bincount(log.item[priced], log.price[priced], minlength=items)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).astype(np.float32)
