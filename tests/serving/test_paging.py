"""Paging: a token comes back as it was, anything else is refused, and no page repeats another."""

import zlib
from base64 import urlsafe_b64encode

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.schema import ID_PATTERN
from serving.reranking import PageToken, best
from serving.reranking.paging import MAX_BYTES, MAX_SHOWN

ids = st.from_regex(ID_PATTERN.replace("$", r"\Z"))
tokens = st.builds(PageToken, ids, st.lists(ids, max_size=20).map(tuple))


@given(tokens)
def test_a_token_comes_back_as_it_was(token: PageToken) -> None:
    text = token.encode()
    assert PageToken.decode(text) == token
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@given(tokens, st.data())
def test_a_damaged_token_is_refused(token: PageToken, data: st.DataObject) -> None:
    text = token.encode()
    at = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(at, len(text)))
    damaged = text[:at] + data.draw(st.text("Aab9-_=+/ é", max_size=3)) + text[end:]
    if damaged != text:
        with pytest.raises(ValueError, match="begin with the first page"):
            PageToken.decode(damaged)


@given(st.text() | st.binary().map(lambda content: urlsafe_b64encode(content).decode()))
def test_a_foreign_token_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="begin with the first page"):
        PageToken.decode(text)


def test_a_token_that_unpacks_to_more_than_it_may_is_refused() -> None:
    bomb = urlsafe_b64encode(bytes(8) + zlib.compress(bytes(100 * MAX_BYTES), 9)).decode().rstrip("=")
    with pytest.raises(ValueError, match="begin with the first page"):
        PageToken.decode(bomb)


def test_a_listing_ends_and_its_longest_token_is_small() -> None:
    full = PageToken("20261120T030000Z", ()).after(
        "20261121T030000Z", [f"sku-{n:07}" for n in range(MAX_SHOWN)]
    )
    assert PageToken.decode(full.encode()) == full
    assert len(full.encode()) < 8000
    with pytest.raises(ValueError, match=f"ends after {MAX_SHOWN} items"):
        full.after("20261121T030000Z", ["one more"])


@given(st.lists(st.permutations("abcdefghij"), min_size=2, max_size=5), st.integers(1, 4), st.data())
def test_no_page_repeats_another_even_if_each_is_made_by_another_model(
    models: list[list[str]], k: int, data: st.DataObject
) -> None:
    token, seen = PageToken("first", ()), list[str]()
    for number, order in enumerate(models):
        known = order[: data.draw(st.integers(1, 10))]  # the model's index of items, and its ranking
        excluded = PageToken.decode(token.encode()).excluded({item: i for i, item in enumerate(known)})
        left = np.setdiff1d(np.arange(len(known), dtype=np.int32), excluded)
        page = [known[item] for item in best(left, -left.astype(np.float32), k)[0]]
        assert not set(page) & set(seen)
        assert len(page) == min(k, len(set(known) - set(seen)))
        seen += page
        token = token.after(f"model {number}", page)
    assert list(token.shown) == seen
