"""What a training reads: the shop and its log, encoded, and how time is cut."""

import hashlib
import logging
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from feature_repo.archive import Archive
from feature_repo.catalog import read_items
from feature_repo.encoded_log import EncodedLog, encode_log
from feature_repo.erasure import PendingErasures, covered, is_in
from feature_repo.schema import Event
from feature_repo.settings import Settings
from training import cleaning
from training.assemble import Shop, describe_shop
from training.log_checks import without_stopped

COLUMNS: Final = [
    Event.ID,
    Event.TYPE,
    Event.USER,
    Event.VISITOR,
    Event.ITEM,
    Event.TIMESTAMP,
    Event.REQUEST,
    Event.PRICE,
    Event.VALUE,
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """The three parts of time, in microseconds: before ``ranker``, before ``test``, before ``end``."""

    ranker: int
    test: int
    end: int


def read_inputs(settings: Settings, before: int | None = None) -> tuple[pa.Table, pa.Table]:
    """Events of the archive (COLUMNS), cleaned, earlier than ``before`` (microseconds); and the catalog.

    Windows that were stopped for their quality are left out, and shoppers whose erasure is not done yet.
    """
    archive = Archive(settings.archive_dir)
    archive.compact()
    items = read_items(settings.catalog_dir)
    archived = _without_pending(archive.read(end=before, columns=cleaning.COLUMNS), settings)
    events, findings = cleaning.clean(without_stopped(archived, settings), items, settings)
    counts = "".join(f", {finding.rows:,} {finding.action} ({finding.rule})" for finding in findings)
    logger.info("log: %s of %s events to learn from%s", f"{len(events):,}", f"{len(archived):,}", counts)
    return events.select(COLUMNS), items


def _without_pending(events: pa.Table, settings: Settings) -> pa.Table:
    """Events but those of shoppers whose erasure is not done, and of the visitors that they tie to them."""
    pending = PendingErasures(settings.erasures_dir, Archive(settings.archive_dir).tombstones).all()
    if not pending:
        return events
    users, visitors = events[Event.USER], events[Event.VISITOR]
    erasures = [
        erasure.with_visitors(
            visitors.filter(pa.array(is_in(users, [erasure.user_id or ""]))).unique().drop_null().to_pylist()
        )
        for erasure in pending
    ]
    times = events[Event.TIMESTAMP].cast(pa.int64()).to_numpy()
    return events.filter(pa.array(~covered(erasures, users, visitors, times)))


def encode(events: pa.Table, items: pa.Table) -> tuple[Shop, EncodedLog]:
    """The shop's items, and its log in their codes."""
    shop = describe_shop(events, items)
    return shop, encode_log(events, shop.item_ids)


def read_shop(settings: Settings, before: int | None = None) -> tuple[Shop, EncodedLog]:
    """The shop's items and its log before a moment, encoded."""
    return encode(*read_inputs(settings, before))


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
