"""A search finds what was meant, however it was typed, in any language."""

from pathlib import Path

import numpy as np
import orjson
import pytest

from serving.text_index import FILES, NO_TEXT, TextIndex

TITLES = [
    "Red enamel teapot",
    "Blue porcelain mug",
    "Café crème bowl",
    "白色陶瓷茶杯",
    "黑色不锈钢水壶",
    "Сервиз чайный",
    "",
]
INDEX = TextIndex.of(TITLES)


def best(index: TextIndex, query: str) -> str:
    return TITLES[int(np.argmax(index.scores(query)))]


@pytest.mark.parametrize(
    ("query", "title"),
    [
        ("teapot", TITLES[0]),
        ("TEAPOT red", TITLES[0]),
        ("taepot", TITLES[0]),
        ("porcelian mgu", TITLES[1]),
        ("cafe creme", TITLES[2]),
        ("茶杯", TITLES[3]),
        ("陶瓷", TITLES[3]),
        ("水壶", TITLES[4]),
        ("чайный", TITLES[5]),
    ],
)
def test_what_was_meant_is_found(query: str, title: str) -> None:
    assert best(INDEX, query) == title


@pytest.mark.parametrize("query", ["", "!?", "q", "\x00", "zzzz xxxx"])
def test_a_query_that_means_nothing_finds_nothing(query: str) -> None:
    assert not INDEX.scores(query).any()


def test_an_index_is_the_same_when_it_was_kept(tmp_path: Path) -> None:
    INDEX.save(tmp_path)
    kept = TextIndex.load(tmp_path)
    for query in ("teapot", "茶杯", "nothing like it"):
        np.testing.assert_array_equal(kept.scores(query), INDEX.scores(query))


def test_a_shop_without_texts_finds_nothing(tmp_path: Path) -> None:
    TextIndex.of(["", "!"]).save(tmp_path)
    assert not list(tmp_path.iterdir())
    assert TextIndex.load(tmp_path).scores("teapot").size == NO_TEXT.scores("teapot").size == 0


def test_the_same_texts_make_the_same_files_in_every_process(tmp_path: Path) -> None:
    TextIndex.of(["red lamp shade", "steel kettle", ""]).save(tmp_path)
    pieces = orjson.loads((tmp_path / FILES["vocab_name"]).read_bytes())
    numbered = sorted((piece for piece in pieces if piece), key=pieces.__getitem__)
    assert numbered == sorted(numbered)  # a set's order differs from process to process
