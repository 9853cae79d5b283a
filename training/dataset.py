"""What a training reads: the shop and its log, encoded, and how time is cut."""

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np

from feature_repo.archive import Archive
from feature_repo.catalog import read_items
from feature_repo.encoded_log import EncodedLog, encode_log
from feature_repo.schema import Event
from feature_repo.settings import Settings
from training.assemble import Shop, describe_shop

COLUMNS: Final = [
    Event.ID,
    Event.TYPE,
    Event.USER,
    Event.VISITOR,
    Event.ITEM,
    Event.TIMESTAMP,
    Event.PRICE,
    Event.VALUE,
]


@dataclass(frozen=True)
class Split:
    """The three parts of time, in microseconds: before ``ranker``, before ``test``, before ``end``."""

    ranker: int
    test: int
    end: int


def read_shop(settings: Settings) -> tuple[Shop, EncodedLog]:
    """The archive, each event once, encoded; and the shop's items."""
    archive = Archive(settings.archive_dir)
    archive.compact()
    events = archive.read(columns=COLUMNS)
    shop = describe_shop(events, read_items(settings.catalog_dir))
    return shop, encode_log(events, shop.item_ids)


def split_by_time(active: EncodedLog, *, ranker_share: float, test_share: float) -> Split:
    """Cut at quantiles of the interactions' times, so that a quiet month does not starve a part."""
    shares = [1 - test_share - ranker_share, 1 - test_share]
    ranker, test = (int(moment) for moment in np.quantile(active.time, shares))
    return Split(ranker, test, int(active.time.max()) + 1)


def fingerprint(log: EncodedLog, config: object) -> str:
    """Name of what a training starts from: the same log and configuration have the same."""
    digest = hashlib.blake2b(repr((config, len(log.item_ids))).encode(), digest_size=8)
    for column in (log.shopper, log.item, log.type, log.time):
        digest.update(column.tobytes())
    return digest.hexdigest()
