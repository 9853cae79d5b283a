"""The files of a bundle: a directory that holds all of it or does not exist, and that a server can trust.

``models/<version>/`` holds ``manifest.json`` (written last), one ``.npy`` file per array, the item and shopper
names, the catalog, the session encoder (ONNX) and the LightGBM model.
"""

import hashlib
import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import lightgbm
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.feather

from feature_repo.durable_file import replace_file, sync
from feature_repo.errors import BundleError
from feature_repo.ranking_features import RANKING_COLUMNS, RANKING_HASH, ItemColumns
from feature_repo.schema import Item
from feature_repo.user_tower import UserTower
from serving.bundle import Availability, Bundle, Manifest, UserColumns
from serving.calibration import Calibration
from serving.indexes import GroupedLists, Neighbours, PopularityLists, Segments, SessionIndex, UserHistories
from serving.ranking import Ranker, Rankers
from serving.session_encoder import EncoderItems, SessionEncoder
from serving.text_index import TextIndex
from serving.vector_index import NO_VECTORS, VectorIndex

MANIFEST: Final = "manifest.json"
RANKER: Final = "ranker.txt"
ENCODER: Final = "encoder.onnx"
ENCODER_ITEMS: Final = "encoder_items"
TOWER_INDEX: Final = "tower.faiss"
ENCODER_INDEX: Final = "encoder.faiss"
USER_INDEX: Final = "users.faiss"
ITEMS: Final = "items.arrow"
SHOPPERS: Final = "shoppers.arrow"
CATEGORIES: Final = "categories.arrow"
NAME: Final = "name"

Columns = TypeVar("Columns")

ARRAYS: Final = {
    "items": ItemColumns,
    "availability": Availability,
    "tower": UserTower,
    "covisited": Neighbours,
    "walked": Neighbours,
    "bought_together": Neighbours,
    "alike": Neighbours,
    "sessions": SessionIndex,
    "popularity": PopularityLists,
    "category_popularity": GroupedLists,
    "segments": Segments,
    "segment_popularity": GroupedLists,
    "users": UserColumns,
    "histories": UserHistories,
    "calibration": Calibration,
}
"""Parts of a bundle that are nothing but arrays, a file each, by the name of the field."""


def write_bundle(bundle: Bundle, directory: Path) -> Bundle:
    """Write a bundle so that ``directory`` either holds all of it or does not exist; returns it with checksums."""
    temporary = directory.with_name(f".{directory.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name, array in _arrays(bundle):
        np.save(temporary / name, array)
    _write_table(bundle.catalog, temporary / ITEMS)
    _write_table(pa.table({NAME: pa.array(bundle.shopper_keys, pa.string())}), temporary / SHOPPERS)
    _write_table(pa.table({NAME: pa.array(bundle.categories, pa.string())}), temporary / CATEGORIES)
    bundle.texts.save(temporary)
    bundle.tower_index.save(temporary / TOWER_INDEX)
    bundle.encoder_index.save(temporary / ENCODER_INDEX)
    bundle.user_index.save(temporary / USER_INDEX)
    if bundle.encoder is not None:
        (temporary / ENCODER).write_bytes(bundle.encoder.network)
    for name, ranker in bundle.rankers._asdict().items():
        if ranker is not None:
            ranker.booster.save_model(temporary / f"{name}_{RANKER}")
    checksums = {path.name: _checksum(path) for path in sorted(temporary.iterdir())}
    manifest = replace(bundle.manifest, checksums=checksums)
    (temporary / MANIFEST).write_bytes(_manifest_json(manifest))
    for path in temporary.iterdir():
        sync(path)
    sync(temporary)
    temporary.rename(directory)
    sync(directory.parent)
    return replace(bundle, manifest=manifest)


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a bundle; BundleError when there is none or it cannot be read."""
    try:
        return Manifest(**orjson.loads((directory / MANIFEST).read_bytes()))
    except FileNotFoundError:
        raise BundleError(f"no model bundle at {directory}: run `freshet train` to make one") from None
    except (orjson.JSONDecodeError, TypeError) as error:
        raise BundleError(
            f"{directory / MANIFEST} is damaged ({error}): roll back with `freshet rollback`"
        ) from None


def read_bundle(directory: Path) -> Bundle:
    """Map a bundle into memory after checking that it is whole and made for today's features.

    Raises BundleError that says what does not fit and what to do.
    """
    manifest = read_manifest(directory)
    _check_features(manifest)
    for name, expected in manifest.checksums.items():
        path = directory / name
        if not path.is_file() or _checksum(path) != expected:
            raise BundleError(
                f"bundle {manifest.version}: {name} is missing or differs from its checksum: "
                "train again, or serve another version with `freshet rollback VERSION`"
            )
    catalog = _read_table(directory / ITEMS)
    arrays: dict[str, Any] = {name: _map_columns(kind, directory, name) for name, kind in ARRAYS.items()}
    encoder = _read_encoder(directory) if ENCODER in manifest.checksums else None
    return Bundle(
        manifest=manifest,
        item_ids=catalog[Item.ID].to_numpy(),
        catalog=catalog,
        categories=_read_table(directory / CATEGORIES)[NAME].to_pylist(),
        shopper_keys=_read_table(directory / SHOPPERS)[NAME].to_numpy(),
        tower_index=VectorIndex.load(arrays["tower"].embeddings, directory / TOWER_INDEX),
        encoder=encoder,
        encoder_index=NO_VECTORS
        if encoder is None
        else VectorIndex.load(encoder.items.embeddings, directory / ENCODER_INDEX),
        user_index=VectorIndex.load(arrays["users"].embeddings, directory / USER_INDEX),
        texts=TextIndex.load(directory),
        **arrays,
        rankers=Rankers(*(_read_ranker(directory, f"{name}_{RANKER}", manifest) for name in Rankers._fields)),
    )


def forget_shoppers(directory: Path, shopper_keys: Collection[str]) -> int:
    """Make a bundle's rows of these shoppers nobody's: their keys become empty. Returns how many had one.

    The manifest goes first: killed in between, the bundle is refused until this is done again.
    """
    names = _read_table(directory / SHOPPERS)[NAME].to_pylist()
    kept = ["" if name in shopper_keys else name for name in names]
    forgotten = sum(name in shopper_keys for name in names)
    if forgotten:
        content = pa.BufferOutputStream()
        _write_table(pa.table({NAME: pa.array(kept, pa.string())}), content)
        table = content.getvalue()
        manifest = read_manifest(directory)
        checksums = {**manifest.checksums, SHOPPERS: hashlib.sha256(table).hexdigest()}
        replace_file(directory / MANIFEST, _manifest_json(replace(manifest, checksums=checksums)))
        replace_file(directory / SHOPPERS, table)
    return forgotten


def _check_features(manifest: Manifest) -> None:
    if manifest.feature_hash == RANKING_HASH:
        return
    lacking = [column for column in RANKING_COLUMNS if column not in manifest.feature_columns]
    surplus = [column for column in manifest.feature_columns if column not in RANKING_COLUMNS]
    raise BundleError(
        f"bundle {manifest.version} was trained on other features "
        f"(lacks {lacking or 'none'}, has unknown {surplus or 'none'}): train again with this version of Freshet"
    )


def _arrays(bundle: Bundle) -> Iterator[tuple[str, np.ndarray]]:
    parts = {name: getattr(bundle, name) for name in ARRAYS}
    if bundle.encoder is not None:
        parts[ENCODER_ITEMS] = bundle.encoder.items
    for name, columns in parts.items():
        for field in fields(columns):
            yield f"{name}.{field.name}.npy", getattr(columns, field.name)


def _read_encoder(directory: Path) -> SessionEncoder:
    return SessionEncoder(
        _map_columns(EncoderItems, directory, ENCODER_ITEMS), (directory / ENCODER).read_bytes()
    )


def _read_ranker(directory: Path, name: str, manifest: Manifest) -> Ranker | None:
    if name not in manifest.checksums:
        return None
    try:
        return Ranker(lightgbm.Booster(model_file=directory / name))
    except ValueError as error:
        raise BundleError(f"bundle {manifest.version}: {name}: {error}") from None


def _map_columns(kind: type[Columns], directory: Path, name: str) -> Columns:
    files = (directory / f"{name}.{field.name}.npy" for field in fields(kind))  # type: ignore[arg-type]
    # A plain view of each map: numpy's memmap class costs every slice of it some microseconds.
    return kind(*(np.asarray(np.load(file, mmap_mode="r")) for file in files))


def _manifest_json(manifest: Manifest) -> bytes:
    return orjson.dumps(asdict(manifest), option=orjson.OPT_INDENT_2)


def _write_table(table: pa.Table, destination: Path | pa.NativeFile) -> None:
    pyarrow.feather.write_feather(table, destination, compression="uncompressed")


def _read_table(path: Path) -> pa.Table:
    return pyarrow.feather.read_table(path, memory_map=True)


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
