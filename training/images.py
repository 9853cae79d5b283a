"""``freshet embed-images``: the shop's pictures become the image vectors of its catalog."""

import logging
import struct
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import onnxruntime
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, ImageOps
from tqdm import tqdm

from feature_repo.arrays import Float32, Float64
from feature_repo.catalog import change_items, read_items
from feature_repo.errors import InputError
from feature_repo.schema import ITEM_SCHEMA, Item
from feature_repo.user_tower import unit_rows

SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".webp")
FORMATS: Final = ("JPEG", "PNG", "WEBP")
BATCH: Final = 32
"""Pictures that are in memory at a time, unless the model says how many it takes."""

SIDE: Final = 64
"""Pixels of a picture that the built-in descriptor looks at, in each direction."""
HUES: Final = 8
GREYS: Final = 4
GREY_WEIGHT: Final = 0.25
"""Of a pixel without colour, beside one of full colour: most backgrounds have none."""
COLOUR_GRID: Final = 2
ORIENTATIONS: Final = 8
EDGE_GRID: Final = 4

MODEL_SIDE: Final = 224
"""Pixels in each direction where a model takes any number."""
IMAGENET_MEAN: Final = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_SPREAD: Final = np.array([0.229, 0.224, 0.225], np.float32)

Pictures = npt.NDArray[np.uint8]
"""uint8[n, height, width, 3]: red, green, blue."""

_UNREADABLE: Final = (
    OSError,
    SyntaxError,  # a broken PNG
    ValueError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Embedder:
    """Makes vectors float32[n, d] of n pictures, ``batch`` at most, of a size in pixels."""

    width: int
    height: int
    batch: int
    embed: Callable[[Pictures], Float32]


@dataclass(frozen=True)
class ImageReport:
    """What became of the items and of the images: embedded + unreadable + without_image are the catalog's items."""

    embedded: int
    without_image: int
    without_item: int
    unreadable: int

    def to_text(self) -> str:
        """Lines for a terminal."""
        return (
            f"embedded                {self.embedded:,}\n"
            f"items without an image  {self.without_image:,}\n"
            f"images without an item  {self.without_item:,}\n"
            f"unreadable files        {self.unreadable:,}"
        )


def embed_images(catalog_dir: Path, images: Path, embedder: Embedder) -> ImageReport:
    """Give each item of the catalog the vector of its image, ``images``/<item_id> with one of SUFFIXES.

    Files that cannot be read are skipped with a warning. An item without an image keeps the vector it has, unless
    that is of another length and so of another model. Raises InputError, and changes nothing, when no image can be
    used.
    """
    items = set(read_items(catalog_dir)[Item.ID].to_pylist())
    if not items:
        raise InputError(
            "the catalog has no items to embed images of: bring them in with `freshet import --items`"
        )
    files = _files_by_name(images)
    of_items = {name: path for name, path in files.items() if name in items}
    vectors = _vectors(of_items, embedder)
    report = ImageReport(
        embedded=len(vectors),
        without_image=len(items) - len(of_items),
        without_item=len(files) - len(of_items),
        unreadable=len(of_items) - len(vectors),
    )
    if not vectors:
        raise InputError(
            f"{images} has no image to use: {report.without_item:,} are named after no item of the catalog, "
            f"{report.unreadable:,} cannot be read; their names are <item_id>{', '.join(SUFFIXES)}"
        )
    _keep(catalog_dir, vectors)
    return report


def _files_by_name(folder: Path) -> dict[str, Path]:
    """Image files by their name without suffix, in order; InputError when there is no such folder."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: --images takes the folder of the images")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            kept = files.setdefault(path.stem, path)
            if kept != path:
                logger.warning("%s is left out: %s is of the same item", path.name, kept.name)
    return files


def _vectors(files: Mapping[str, Path], embedder: Embedder) -> dict[str, Float32]:
    """The vector float32[d] of each file that can be read."""
    vectors: dict[str, Float32] = {}
    readable = _read_all(files, embedder.width, embedder.height)
    while batch := list(islice(readable, embedder.batch)):
        names, pictures = zip(*batch, strict=True)
        vectors.update(zip(names, embedder.embed(np.stack(pictures)), strict=True))
    return vectors


def _read_all(files: Mapping[str, Path], width: int, height: int) -> Iterator[tuple[str, Pictures]]:
    for name, path in tqdm(files.items(), desc="embed-images", unit="image", leave=False):
        try:
            picture = _read(path, width, height)
        except _UNREADABLE as error:
            logger.warning("%s is left out: %s", path.name, error)
        else:
            yield name, picture


def _read(path: Path, width: int, height: int) -> Pictures:
    """uint8[height, width, 3]: the whole picture at another size, on white where it is transparent."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        image = Image.open(path, formats=FORMATS)
    with image:
        image.draft("RGB", (2 * width, 2 * height))  # JPEG alone can be decoded at less than its full size
        ImageOps.exif_transpose(image, in_place=True)
        small = image.convert("RGBA" if image.has_transparency_data else "RGB").resize((width, height))
    if small.mode == "RGBA":
        small = Image.alpha_composite(Image.new("RGBA", small.size, "white"), small).convert("RGB")
    return np.asarray(small)


def _keep(catalog_dir: Path, vectors: Mapping[str, Float32]) -> None:
    """Write the vectors into the catalog; those of other items stay, unless they are of another length."""
    length = len(next(iter(vectors.values())))

    def embedded(items: pa.Table) -> pa.Table:
        seen = pc.is_in(items[Item.ID], value_set=pa.array(vectors, pa.string()))
        other_length = pc.not_equal(pc.list_value_length(items[Item.IMAGE_EMBEDDING]), length)
        changed = items.filter(pc.or_kleene(seen, other_length))
        place = ITEM_SCHEMA.get_field_index(Item.IMAGE_EMBEDDING)
        field = ITEM_SCHEMA.field(place)
        lists = pa.array([vectors.get(name) for name in changed[Item.ID].to_pylist()], field.type)
        return changed.set_column(place, field, lists)

    changed = change_items(catalog_dir, embedded)
    if changed > len(vectors):
        logger.warning(
            "%s items without a usable image lost a vector that was not of length %d, and so of another model",
            f"{changed - len(vectors):,}",
            length,
        )


def _describe(pictures: Pictures) -> Float32:
    """float32[n, 208]: where the colours are and where the edges run, each part of length one.

    Colours are histograms of hue, of dark and of bright ones, and of grey, in a grid of cells; edges are histograms
    of their orientation in a finer grid (Dalal and Triggs, CVPR 2005). Roots of the counts are compared
    (Arandjelovic and Zisserman, CVPR 2012), lest the background outweighs all else.
    """
    parts = (_colours(pictures / 255), _edges(pictures / 255))
    return np.hstack([unit_rows(np.sqrt(part)) for part in parts]).astype(np.float32)


def _colours(pictures: Float64) -> Float64:
    red, green, blue = np.moveaxis(pictures, 3, 0)
    value = pictures.max(axis=3)
    chroma = value - pictures.min(axis=3)
    hue = np.arctan2(np.sqrt(3) * (green - blue), 2 * red - green - blue) / (2 * np.pi) * HUES
    return np.hstack(
        [
            _histograms(hue, chroma * (1 - value), HUES, COLOUR_GRID),
            _histograms(hue, chroma * value, HUES, COLOUR_GRID),
            _histograms(value * (GREYS - 1), GREY_WEIGHT * (1 - chroma), GREYS, COLOUR_GRID),
        ]
    )


def _edges(pictures: Float64) -> Float64:
    down, right = np.gradient(pictures.mean(axis=3), axis=(1, 2))
    orientation = np.arctan2(down, right) / np.pi * ORIENTATIONS  # an edge and its negative are the same
    return _histograms(orientation, np.hypot(down, right), ORIENTATIONS, EDGE_GRID)


def _histograms(position: Float64, weight: Float64, bins: int, grid: int) -> Float64:
    """float64[n, grid * grid * bins]: a histogram of each cell of n pictures.

    position, weight float64[n, SIDE, SIDE]: between which two bins a pixel lies, which share its weight. After the
    last bin comes the first, as angles want it.
    """
    along = np.arange(SIDE) * grid // SIDE
    cell = (np.arange(len(position))[:, None, None] * grid + along[:, None]) * grid + along
    below = np.floor(position).astype(np.int64)
    share = position - below
    slots = len(position) * grid * grid * bins
    counts = np.zeros(slots)
    for neighbour, part in ((below, 1 - share), (below + 1, share)):
        counts += np.bincount((cell * bins + neighbour % bins).ravel(), (weight * part).ravel(), slots)
    return counts.reshape(len(position), -1)


DESCRIPTOR: Final = Embedder(SIDE, SIDE, BATCH, _describe)
"""Colours and edges: tells red from blue and shirts from bottles, without a model."""


def onnx_embedder(path: Path) -> Embedder:
    """An image model in ONNX format, run on one thread.

    Its input is float32[batch, 3, height, width], which may leave all but the 3 open, scaled as for ImageNet; its
    first output is flattened to a vector per picture. Raises InputError for anything else, and so may ``embed``.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file: --model takes an image model in ONNX format")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is told once, by the error
    with _told_of(path):
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    taken = session.get_inputs()[0]
    sizes = [size if isinstance(size, int) else None for size in taken.shape]
    if taken.type != "tensor(float)" or len(sizes) != 4 or sizes[1] not in (3, None):
        raise InputError(f"{path} takes {taken.type} of {taken.shape}, not float32 [batch, 3, height, width]")
    batch, width, height = sizes[0] or BATCH, sizes[3] or MODEL_SIDE, sizes[2] or MODEL_SIDE
    return Embedder(width, height, batch, _OnnxModel(path, session, taken.name, batch).embed)


@dataclass(frozen=True)
class _OnnxModel:
    path: Path
    session: onnxruntime.InferenceSession
    input_name: str
    batch: int

    def embed(self, pictures: Pictures) -> Float32:
        """float32[n, d]; InputError when the model cannot be run or gives something else."""
        scaled = (pictures / np.float32(255) - IMAGENET_MEAN) / IMAGENET_SPREAD
        channels_first = scaled.transpose(0, 3, 1, 2)
        full = np.zeros((self.batch, *channels_first.shape[1:]), np.float32)  # it may take no smaller batch
        full[: len(pictures)] = channels_first
        with _told_of(self.path):
            output = np.asarray(self.session.run(None, {self.input_name: full})[0], np.float32)
        if output.shape[:1] != (self.batch,) or not np.isfinite(output[: len(pictures)]).all():
            raise InputError(
                f"{self.path} gives {output.shape} of {full.shape}, not a finite vector per picture"
            )
        return output.reshape(self.batch, -1)[: len(pictures)]


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    """Turn what ONNX Runtime raises into InputError."""
    try:
        yield
    except Exception as error:  # its errors have no base of their own
        raise InputError(f"{path} cannot be run: {str(error).splitlines()[0]}") from error
