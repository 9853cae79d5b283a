"""Images: what looks alike gets vectors that are near, and the catalog keeps them."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
from onnx import TensorProto, helper
from PIL import Image, ImageDraw

from feature_repo.arrays import Float32
from feature_repo.catalog import read_items, upsert_items
from feature_repo.errors import InputError
from feature_repo.schema import ITEM_SCHEMA, Item
from training.cli import main
from training.content import content_neighbours, content_vectors
from training.images import (
    DESCRIPTOR,
    IMAGENET_MEAN,
    IMAGENET_SPREAD,
    MODEL_SIDE,
    ImageReport,
    embed_images,
    onnx_embedder,
)

SHAPES = {"square": "rectangle", "circle": "ellipse"}


def drawn(shape: str, colour: str, *, size: int = 160, shift: int = 0) -> Image.Image:
    """A shape in the middle of a white picture, or so many pixels beside it."""
    image = Image.new("RGB", (size, size), "white")
    corners = (size // 4 + shift, size // 4, 3 * size // 4 + shift, 3 * size // 4)
    getattr(ImageDraw.Draw(image), SHAPES[shape])(corners, fill=colour)
    return image


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    return folder


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    """Folder of a catalog of the items a to d."""
    folder = tmp_path / "catalog"
    rows = [{Item.ID: name, Item.TITLE: f"title of {name}", Item.PRICE: 2.5} for name in "abcd"]
    upsert_items(folder, pa.Table.from_pylist(rows, schema=ITEM_SCHEMA))
    return folder


def embeddings(catalog: Path) -> dict[str, list[float] | None]:
    items = read_items(catalog)
    return dict(zip(items[Item.ID].to_pylist(), items[Item.IMAGE_EMBEDDING].to_pylist(), strict=True))


def embedded(images: Path, catalog: Path, pictures: Mapping[str, Image.Image]) -> dict[str, Float32]:
    """Vectors of length one, by item, of pictures that are files in the folder."""
    for name, picture in pictures.items():
        picture.save(images / f"{name}.png")
    upsert_items(catalog, pa.Table.from_pylist([{Item.ID: name} for name in pictures], schema=ITEM_SCHEMA))
    embed_images(catalog, images, DESCRIPTOR)
    found = {name: np.array(vector, np.float32) for name, vector in embeddings(catalog).items() if vector}
    return {name: vector / np.linalg.norm(vector) for name, vector in found.items()}


def model(path: Path, shape: list[int | str], operation: str = "GlobalAveragePool", **how: Any) -> Path:
    """An image model that gives a picture's mean of each channel, or does what another operation does."""
    taken = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape)
    given = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    graph = helper.make_graph(
        [helper.make_node(operation, ["pixels"], ["out"], **how)], "g", [taken], [given]
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, path)
    return path


def mean_colour(vector: Any) -> list[float]:
    """What ``model`` gives, as red, green and blue of 255 again."""
    return [float(value) for value in np.round((np.array(vector) * IMAGENET_SPREAD + IMAGENET_MEAN) * 255)]


# The built-in descriptor


def test_a_red_square_is_nearer_to_a_red_circle_than_to_anything_blue(images: Path, catalog: Path) -> None:
    pictures = {f"{colour} {shape}": drawn(shape, colour) for colour in ("red", "blue") for shape in SHAPES}
    vectors = embedded(images, catalog, pictures)
    red_square = vectors["red square"]
    to_red_circle = red_square @ vectors["red circle"]
    assert to_red_circle > red_square @ vectors["blue square"]
    assert to_red_circle > red_square @ vectors["blue circle"]


def test_of_one_colour_the_same_shape_is_nearest(images: Path, catalog: Path) -> None:
    pictures = {
        "square": drawn("square", "green"),
        "moved square": drawn("square", "green", shift=8),
        "circle": drawn("circle", "green"),
    }
    vectors = embedded(images, catalog, pictures)
    assert vectors["square"] @ vectors["moved square"] > vectors["square"] @ vectors["circle"]


def test_shades_of_a_colour_are_nearer_than_another_colour(images: Path, catalog: Path) -> None:
    vectors = embedded(images, catalog, {name: drawn("square", name) for name in ("darkred", "red", "green")})
    assert vectors["darkred"] @ vectors["red"] > vectors["darkred"] @ vectors["green"]


def test_size_and_format_of_the_file_make_little_difference(images: Path, catalog: Path) -> None:
    drawn("circle", "red").save(images / "a.png")
    drawn("circle", "red", size=1_200).save(images / "b.jpg")
    drawn("circle", "red", size=300).save(images / "c.JPEG")
    drawn("circle", "red", size=64).save(images / "d.webp")
    assert embed_images(catalog, images, DESCRIPTOR).embedded == 4
    vectors = np.array(list(embeddings(catalog).values()))
    assert (vectors @ vectors[0] / (vectors[0] @ vectors[0])).min() > 0.9


def test_what_is_transparent_is_white(images: Path, catalog: Path) -> None:
    bare = Image.new("RGBA", (160, 160), (0, 255, 0, 0))
    bare.paste(drawn("circle", "red").crop((40, 40, 121, 121)), (40, 40))
    palette = drawn("circle", "red").convert("P")
    vectors = embedded(images, catalog, {"a": drawn("circle", "red"), "b": bare, "c": palette})
    assert vectors["a"] @ vectors["b"] > 0.99
    assert vectors["a"] @ vectors["c"] > 0.99


def test_a_photograph_taken_sideways_is_turned_upright(images: Path, catalog: Path) -> None:
    upright = drawn("square", "red", shift=30)
    turned = Image.Exif()
    turned[0x0112] = 6  # to be shown turned a quarter to the right
    upright.save(images / "a.jpg")
    upright.rotate(90).save(images / "b.jpg", exif=turned)
    upright.rotate(90).save(images / "c.jpg")
    embed_images(catalog, images, DESCRIPTOR)
    found = embeddings(catalog)
    assert found["b"] == pytest.approx(found["a"], abs=0.05)
    assert found["c"] != pytest.approx(found["a"], abs=0.05)


def test_items_that_look_alike_become_neighbours_in_content(images: Path, catalog: Path) -> None:
    looks = [(shape, colour) for shape in SHAPES for colour in ("red", "blue", "green", "gold")]
    for number, (shape, colour) in enumerate(looks * 3):
        upsert_items(catalog, pa.Table.from_pylist([{Item.ID: f"i{number:02}"}], schema=ITEM_SCHEMA))
        drawn(shape, colour, shift=number // 2).save(images / f"i{number:02}.png")
    embed_images(catalog, images, DESCRIPTOR)
    of_images = read_items(catalog).slice(4)  # a to d have titles alone
    found = content_neighbours(content_vectors(of_images), np.ones(24, bool)).items
    assert (found[:, :2] % 8 == np.arange(24)[:, None] % 8).all()


# Any ONNX model


@pytest.mark.parametrize("batch", ["n", 1, 3, 64])
def test_a_model_gets_pictures_of_its_size_scaled_as_for_imagenet(
    batch: int | str, images: Path, catalog: Path, tmp_path: Path
) -> None:
    for name, colour in {"a": (255, 0, 0), "b": (0, 128, 0), "c": (1, 2, 3), "d": (9, 9, 9)}.items():
        Image.new("RGB", (50, 70), colour).save(images / f"{name}.png")
    embedder = onnx_embedder(model(tmp_path / "mean.onnx", [batch, 3, 8, 16]))
    assert (embedder.height, embedder.width) == (8, 16)
    assert embed_images(catalog, images, embedder).embedded == 4
    assert {name: mean_colour(vector) for name, vector in embeddings(catalog).items()} == {
        "a": [255, 0, 0],
        "b": [0, 128, 0],
        "c": [1, 2, 3],
        "d": [9, 9, 9],
    }


def test_a_model_that_takes_any_size_gets_the_usual_one(tmp_path: Path) -> None:
    embedder = onnx_embedder(model(tmp_path / "mean.onnx", ["n", 3, "h", "w"]))
    assert (embedder.height, embedder.width) == (MODEL_SIDE, MODEL_SIDE)


def test_red_green_and_blue_stay_in_their_order_and_output_is_flattened(
    images: Path, catalog: Path, tmp_path: Path
) -> None:
    picture = Image.new("RGB", (2, 1), (255, 0, 0))
    picture.putpixel((1, 0), (0, 0, 255))
    picture.save(images / "a.png")
    embed_images(catalog, images, onnx_embedder(model(tmp_path / "same.onnx", ["n", 3, 1, 2], "Identity")))
    vector = np.array(embeddings(catalog)["a"]).reshape(
        3, 2
    )  # red of both pixels, green of both, blue of both
    assert mean_colour(vector[:, 0]) == [255, 0, 0]
    assert mean_colour(vector[:, 1]) == [0, 0, 255]


def test_what_is_no_image_model_is_refused(images: Path, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    for path, reason in (
        (tmp_path / "none.onnx", "is not a file"),
        (tmp_path / "text.onnx", "cannot be run"),
        (model(tmp_path / "last.onnx", ["n", 8, 8, 3]), r"not float32 \[batch, 3, height, width\]"),
        (model(tmp_path / "flat.onnx", ["n", 12]), r"not float32 \[batch, 3, height, width\]"),
    ):
        with pytest.raises(InputError, match=reason):
            onnx_embedder(path)


@pytest.mark.parametrize("how", [{"operation": "ReduceMax", "keepdims": 0}, {"operation": "Log"}])
def test_a_model_without_a_finite_vector_for_each_picture_is_refused(
    how: dict[str, Any], images: Path, catalog: Path, tmp_path: Path
) -> None:
    drawn("circle", "black").save(images / "a.png")  # the logarithm of less than the mean is none
    with pytest.raises(InputError, match="not a finite vector per picture"):
        embed_images(catalog, images, onnx_embedder(model(tmp_path / "m.onnx", ["n", 3, 8, 8], **how)))
    assert embeddings(catalog)["a"] is None


# The catalog


def test_every_item_and_every_file_is_accounted_for(
    images: Path, catalog: Path, caplog: pytest.LogCaptureFixture
) -> None:
    drawn("circle", "red").save(images / "a.png")
    drawn("circle", "red").save(images / "stranger.png")
    (images / "b.jpg").write_text("no picture")
    whole = images / "whole.png"
    drawn("circle", "red").save(whole)
    (images / "c.png").write_bytes(whole.read_bytes()[:200])
    whole.unlink()
    (images / "notes.txt").write_text("of another kind")
    (images / "d.png").mkdir()
    report = embed_images(catalog, images, DESCRIPTOR)
    assert report == ImageReport(embedded=1, without_image=1, without_item=1, unreadable=2)
    assert {name for name, vector in embeddings(catalog).items() if vector} == {"a"}
    assert [text.split(" is left out")[0] for text in caplog.messages] == ["b.jpg", "c.png"]


def test_an_image_of_too_many_pixels_is_not_decoded(
    images: Path, catalog: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    drawn("circle", "red", size=100).save(images / "a.png")
    drawn("circle", "red", size=101).save(images / "b.png")
    drawn("circle", "red", size=200).save(images / "c.png")
    assert embed_images(catalog, images, DESCRIPTOR).unreadable == 2
    assert ["exceeds limit of" in text for text in caplog.messages] == [True, True]


def test_of_two_images_of_an_item_the_first_is_taken(
    images: Path, catalog: Path, caplog: pytest.LogCaptureFixture
) -> None:
    drawn("circle", "red").save(images / "a.jpg")
    drawn("square", "blue").save(images / "a.png")
    report = embed_images(catalog, images, DESCRIPTOR)
    assert (report.embedded, report.without_item) == (1, 0)
    assert caplog.messages == ["a.png is left out: a.jpg is of the same item"]


def test_embedding_again_changes_nothing_and_other_columns_stay(images: Path, catalog: Path) -> None:
    before = read_items(catalog).drop_columns([Item.IMAGE_EMBEDDING])
    for name in "abc":
        drawn("circle", "red", shift=ord(name) - 100).save(images / f"{name}.png")
    first = embed_images(catalog, images, DESCRIPTOR)
    content = {path.name: path.read_bytes() for path in catalog.glob("*.parquet")}
    assert embed_images(catalog, images, DESCRIPTOR) == first
    assert {path.name: path.read_bytes() for path in catalog.glob("*.parquet")} == content
    assert read_items(catalog).drop_columns([Item.IMAGE_EMBEDDING]) == before


def test_an_item_without_an_image_keeps_its_vector_until_another_model_comes(
    images: Path, catalog: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in "ab":
        drawn("circle", "red").save(images / f"{name}.png")
    embed_images(catalog, images, DESCRIPTOR)
    before = embeddings(catalog)
    (images / "b.png").unlink()
    embed_images(catalog, images, DESCRIPTOR)
    assert embeddings(catalog) == before
    embed_images(catalog, images, onnx_embedder(model(tmp_path / "mean.onnx", ["n", 3, 8, 8])))
    after = embeddings(catalog)
    assert len(after["a"] or ()) == 3
    assert after["b"] is None
    assert caplog.messages == [
        "1 items without a usable image lost a vector that was not of length 3, and so of another model"
    ]
    assert content_vectors(read_items(catalog)).shape[0] == 4


# The command


def run(monkeypatch: pytest.MonkeyPatch, home: Path, *arguments: object) -> int | str | None:
    """Exit code of ``freshet embed-images``."""
    monkeypatch.setattr(sys, "argv", ["freshet", "embed-images", *map(str, arguments)])
    monkeypatch.setenv("FRESHET_HOME", str(home))
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_the_command_prints_what_became_of_items_and_images(
    images: Path,
    catalog: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    drawn("circle", "red").save(images / "a.png")
    drawn("circle", "red").save(images / "z.png")
    path = model(tmp_path / "mean.onnx", ["n", 3, 8, 8])
    for option in ((), ("--model", path)):
        assert run(monkeypatch, tmp_path, "--images", images, *option) == 0
        assert capsys.readouterr().out == (
            "embedded                1\n"
            "items without an image  3\n"
            "images without an item  1\n"
            "unreadable files        0\n"
        )
    assert len(embeddings(catalog)["a"] or ()) == 3


def test_the_command_says_in_one_line_why_it_can_use_no_image(
    images: Path,
    catalog: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (images / "a.png").write_text("no picture")
    (images / "z.png").write_text("no picture")
    for home, folder, reason in (
        (
            tmp_path,
            images,
            "1 are named after no item of the catalog, 1 cannot be read; their names are <item_id>.jpg",
        ),
        (tmp_path, tmp_path / "nowhere", "nowhere is not a folder"),
        (tmp_path / "new", images, "freshet import --items"),
    ):
        assert run(monkeypatch, home, "--images", folder) == 1
        [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("freshet: ")]
        assert reason in line
    assert embeddings(catalog)["a"] is None
