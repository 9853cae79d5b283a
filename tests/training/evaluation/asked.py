"""Requests of a protocol as a person reads them."""

from typing import NamedTuple

from feature_repo.session_features import UNKNOWN_ITEM
from training.replay import Replay


class Described(NamedTuple):
    """Who asks, what the window holds, what is excluded and what is wanted; items by their one-letter names."""

    shopper: str
    window: str
    excluded: str
    wanted: str


def described(requests: Replay) -> list[Described]:
    """Every request, in order."""
    names = [*requests.log.item_ids, "-"]

    def spelled(items: "list[int]") -> str:
        return "".join(str(names[item if item != UNKNOWN_ITEM else -1]) for item in items)

    return [
        Described(
            str(requests.log.shopper_keys[requests.shopper[row]]),
            spelled(requests.window(row).items.tolist()),
            spelled(requests.excluded_items(row).tolist()),
            spelled(requests.wanted[requests.offsets[row] : requests.offsets[row + 1]].tolist()),
        )
        for row in range(len(requests))
    ]
