"""Words of any language, so that those of the catalog and those of a search meet."""

import itertools
import re
import unicodedata
from collections.abc import Iterator
from typing import Final

GRAMS: Final = (2, 3, 4)
"""Lengths of the pieces of a word: a mistyped one shares most of them with the right one."""

_HAN: Final = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_UNSPACED: Final = f"{_HAN}\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\uac00-\ud7a3"
"""Scripts whose spaces do not part words: Chinese, Thai, Lao, Burmese, Khmer, Japanese, Korean."""
_RUN: Final = re.compile(rf"(?P<unspaced>[{_UNSPACED}]+)|(?:[^\W_{_UNSPACED}]|[\u0900-\u0dff])+")
"""Letters and digits that stand together. The vowel signs of Indian scripts are neither, but belong to the word."""
_WORD_CHARACTER: Final = re.compile(f"[{_HAN}]|^.$")
"""A character that may be a word: a Chinese one, or one that stands alone."""
_UNSPACED_WORD: Final = re.compile(f"[{_UNSPACED}]")
_ACCENTS: Final = re.compile("[\u0300-\u036f]+")


def words(text: str) -> Iterator[str]:
    """Words of two letters or more; where spaces do not part words, pairs of characters, and Chinese ones."""
    for run in _RUN.finditer(folded(text)):
        if run["unspaced"]:
            yield from _WORD_CHARACTER.findall(run[0])
            yield from map("".join, itertools.pairwise(run[0]))
        elif len(run[0]) > 1:
            yield run[0]


def folded(text: str) -> str:
    """Text without case, accents and variants of width."""
    bare = _ACCENTS.sub("", unicodedata.normalize("NFKD", text))
    return unicodedata.normalize("NFKC", bare).casefold().strip()


def grams(text: str) -> list[str]:
    """Pieces of the text's words, their ends marked; where spaces do not part words, these are short already."""
    found = []
    for word in words(text):
        if _UNSPACED_WORD.search(word):
            found.append(word)
            continue
        marked = f" {word} "
        found += [marked[at : at + n] for n in GRAMS for at in range(len(marked) - n + 1)]
    return found
