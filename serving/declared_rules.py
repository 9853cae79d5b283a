"""The rules of a placement as they are declared: in words for people, places from 1, hours and days."""

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from feature_repo.schema import DAY, HOUR, ID_PATTERN
from serving.plan import Boost, Exploration, Fatigue
from serving.reranking import MAX_SHOWN
from serving.selector import Selector

MOST_NAMED: Final = 1000
"""Items, brands or categories that one list of a rule may name."""
MOST_BOOSTS: Final = 50
MOST_FACTOR: Final = 1e6


def _require_distinct(pins: Mapping[str, int]) -> Mapping[str, int]:
    twice = [place for place, held in Counter(pins.values()).items() if held > 1]
    if twice:
        raise ValueError(f"place {twice[0]} is given to two items")
    return pins


Name = Annotated[str, Field(min_length=1)]
Names = Annotated[list[Name], Field(min_length=1, max_length=MOST_NAMED)]
Id = Annotated[str, Field(pattern=ID_PATTERN)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Place = Annotated[int, Field(ge=1, le=MAX_SHOWN)]
Pins = Annotated[dict[Id, Place], AfterValidator(_require_distinct)]


class Declared(BaseModel):
    """Part of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DeclaredSelector(Declared):
    """Items of which all that is said holds: see Selector."""

    categories: Names | None = None
    brands: Names | None = None
    item_ids: Annotated[list[Id], Field(min_length=1, max_length=MOST_NAMED)] | None = None
    min_price: Amount | None = None
    max_price: Amount | None = None
    min_margin: Annotated[float, Field(allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _is_said(self) -> Self:
        if self.selector() == Selector():
            raise ValueError(f"say which items: by {', '.join(DeclaredSelector.model_fields)}")
        if self.min_price is not None and self.max_price is not None and self.min_price > self.max_price:
            raise ValueError("no price is at least min_price and at most max_price")
        return self

    def selector(self) -> Selector:
        """The rule's items."""
        return Selector(**{name: getattr(self, name) for name in DeclaredSelector.model_fields})


class DeclaredBoost(DeclaredSelector):
    """How many times as attractive some items are made."""

    factor: float = Field(ge=0, le=MOST_FACTOR)

    def boost(self) -> Boost:
        """The rule."""
        return Boost(self.factor, self.selector())


class DeclaredFatigue(Declared):
    """How much of an item's odds is lost when it was just shown in vain, and when half of that is back."""

    weight: float = Field(gt=0, le=1)
    half_life_hours: float = Field(gt=0, allow_inf_nan=False)

    def fatigue(self) -> Fatigue:
        """The rule."""
        return Fatigue(self.weight, max(1, round(self.half_life_hours * HOUR)))


class DeclaredExploration(Declared):
    """Places for which new items are drawn, the likelier the better they rank; evenly at a high temperature."""

    slots: set[Place] = Field(min_length=1, max_length=MOST_NAMED)
    temperature: float = Field(1.0, gt=0, allow_inf_nan=False)
    newer_than_days: float = Field(gt=0, allow_inf_nan=False)

    def exploration(self) -> Exploration:
        """The rule."""
        places = [slot - 1 for slot in sorted(self.slots)]
        return Exploration(places, self.temperature, round(self.newer_than_days * DAY))
