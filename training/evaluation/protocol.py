"""The protocols of an evaluation by name. Nothing heavy is imported, so that the command line may show them."""

from enum import StrEnum


class Protocol(StrEnum):
    """What is asked of every method, and what counts as a hit."""

    NEXT_ITEM = "next_item"
    NEXT_BASKET = "next_basket"
    BASKET_COMPLETION = "basket_completion"
