"""Paging: a token that tells what a listing has shown, so that its next page repeats nothing.

The server keeps nothing of a listing. Text of a token: base64url of a digest and of the compressed lines, the
version of the model first, then the ids. Items are named by id, which outlives the model whose index they had.
"""

import zlib
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final, Self

import numpy as np

from feature_repo.arrays import Int32
from feature_repo.schema import MAX_ID_LENGTH

MAX_SHOWN: Final = 1000
"""Items that a listing may show over all its pages."""
MAX_BYTES: Final = (MAX_SHOWN + 1) * (4 * MAX_ID_LENGTH + 1)
"""Of the lines in UTF-8: a token that would unpack to more is none of ours."""
WINDOW_BITS: Final = 10
"""Of the compression. To set up a larger window takes longer than to compress a page of ids, and saves nothing."""
DIGEST_SIZE: Final = 8
"""It finds damage. It is no signature: whoever makes up a token sees no more than other items."""
FORMAT: Final = b"freshet page 1"
"""Part of every digest, so that a token of another kind or format does not fit."""
FOREIGN: Final = (
    "the page token is damaged or not of this server: send back the last reply's token as it came, or none to "
    "begin with the first page"
)


@dataclass(frozen=True)
class PageToken:
    """The model that made the newest page of a listing, and the ids of all items that its pages have shown.

    Raises ValueError for more than MAX_SHOWN items: the listing ends there.
    """

    model_version: str
    shown: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.shown) > MAX_SHOWN:
            raise ValueError(
                f"a listing ends after {MAX_SHOWN} items: give out no token for a page after them, and ask for "
                "fewer pages or set filters"
            )

    def after(self, model_version: str, item_ids: Sequence[str]) -> Self:
        """The token for the page after the one that this model made and that shows these items."""
        return replace(self, model_version=model_version, shown=(*self.shown, *item_ids))

    def excluded(self, item_index: Mapping[str, int]) -> Int32:
        """int32[m]: what was shown, in the index of any model, without what that does not know."""
        return np.array([item_index[item] for item in self.shown if item in item_index], np.int32)

    def encode(self) -> str:
        """Text of letters, digits, - and _, which a URL can hold."""
        lines = "\n".join((self.model_version, *self.shown)).encode()
        return urlsafe_b64encode(_digest(lines) + zlib.compress(lines, 9, WINDOW_BITS)).decode().rstrip("=")

    @classmethod
    def decode(cls, token: str) -> Self:
        """The token of a text that ``encode`` made. Raises ValueError for any other, and says what to do."""
        try:
            content = b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            unpacking = zlib.decompressobj()
            lines = unpacking.decompress(content[DIGEST_SIZE:], MAX_BYTES)
            model_version, *shown = lines.decode().split("\n")
        except (ValueError, zlib.error):
            raise ValueError(FOREIGN) from None
        # The digest covers the lines; the rest is about bytes and letters that no decoder looks at.
        whole = unpacking.eof and not unpacking.unused_data
        spelled = urlsafe_b64encode(content).decode().rstrip("=") == token
        if not (content[:DIGEST_SIZE] == _digest(lines) and whole and spelled):
            raise ValueError(FOREIGN)
        return cls(model_version, tuple(shown))


def _digest(lines: bytes) -> bytes:
    return blake2b(FORMAT + lines, digest_size=DIGEST_SIZE).digest()
