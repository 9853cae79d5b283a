"""``freshet refresh``: the live model assembled anew from today's log and catalog, between two trainings.

What was learned stays as it is; all that is counted moves on: new items get vectors, new shoppers are known, trends
turn. A vector of before fits the bundle, since the space is the same, so it keeps the version.
"""

import hashlib
import time
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.feather

from feature_repo.encoded_log import EncodedLog
from feature_repo.errors import BundleError, InputError
from feature_repo.settings import Settings
from serving.bundle import Bundle
from serving.bundle_files import read_bundle, write_bundle
from serving.live_version import (
    current_version,
    new_refreshed_directory,
    refreshed_directory,
    set_refreshed,
)
from training.assemble import Shop, assemble
from training.dataset import encode, fingerprint, read_inputs
from training.doctor.finding import date_text
from training.learned import Learned
from training.locks import AT_ONCE, refresh_lock, require_no_training
from training.publish import models_lock


@dataclass(frozen=True)
class Refreshed:
    """What a refresh made: a version's bundle of so many items, ``new`` of them first met since the training.

    newest: moment (microseconds) of the newest interaction in it.
    """

    version: str
    items: int
    new: int
    newest: int

    def __str__(self) -> str:
        items = f"{self.items:,} items, {self.new:,} new since it was trained"
        return f"model {self.version}: {items}, events up to {date_text(self.newest)}"


def refresh(settings: Settings) -> Refreshed | None:
    """Assemble the live model anew and make servers take it; None where nothing has happened since the last time.

    Raises InputError while a training, an erasure or another refresh runs, or where the log holds no interaction;
    BundleError where no model is live.
    """
    models = settings.models_dir
    with refresh_lock(settings, AT_ONCE):
        require_no_training(settings)
        version = current_version(models)
        if version is None:
            raise BundleError(f"no model is published under {models}: run `freshet train` to make one")
        now = time.time_ns() // 1000
        # An event dated ahead waits: an erasure that comes now must find no later one in the bundle.
        events, items = read_inputs(settings, before=now)
        shop, log = encode(events, items)
        name = fingerprint(log, _checksum(items))
        directory = new_refreshed_directory(models, version, name)
        if directory == refreshed_directory(models) and directory.exists():
            return None
        trained = read_bundle(models / version)
        bundle = reassembled(trained, log, shop, now)
        if not directory.exists():
            write_bundle(bundle, directory)
        with models_lock(models):
            set_refreshed(models, directory, keep=settings.refreshed_kept)
    new = int((bundle.items.first_seen >= trained.manifest.training_end).sum())
    return Refreshed(version, len(bundle.item_ids), new, bundle.manifest.training_end - 1)


def reassembled(trained: Bundle, log: EncodedLog, shop: Shop, created: int) -> Bundle:
    """A trained bundle as of the newest interaction of a log, with what was learned as it was.

    Raises InputError where the log holds no interaction.
    """
    times = log.interactions().time
    if not times.size:
        raise InputError("nobody has shown interest in any item: bring in a log with `freshet import`")
    as_of = int(times.max()) + 1
    manifest = replace(trained.manifest, created=created, training_end=as_of)
    bundle = assemble(log, shop, manifest, Learned.of(trained, shop.item_ids), as_of=as_of)
    return replace(bundle, calibration=trained.calibration)


def _checksum(items: pa.Table) -> str:
    content = pa.BufferOutputStream()
    pyarrow.feather.write_feather(items.combine_chunks(), content, compression="uncompressed")
    return hashlib.sha256(content.getvalue()).hexdigest()
