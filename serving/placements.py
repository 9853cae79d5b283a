"""Placements: what each place of the shop asks for, declared in one YAML file.

A placement is a mixture of sources, what may be shown, how it is ranked and re-ranked. The file is checked as a
whole, and a message names the line that is wrong.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final, Literal, cast

import yaml
from pydantic import Field, TypeAdapter, ValidationError, field_validator

from feature_repo.errors import InputError
from feature_repo.ranking_features import SOURCES
from serving.declared_rules import (
    MOST_BOOSTS,
    Declared,
    DeclaredBoost,
    DeclaredExploration,
    DeclaredFatigue,
    DeclaredSelector,
    Pins,
)
from serving.plan import EVERYTHING, FilledBy, Group, Mixture, Plan, RankedBy, Share
from serving.reranking import DiversityKind
from serving.selector import EVERYTHING_ALLOWED
from serving.yaml_lines import find, require_distinct

SHIPPED: Final = Path(__file__).with_name("placements.yaml")
HOME: Final = "home"
"""The placement of a request that names none."""
RERANK: Final = "rerank"
"""The placement of items that the caller brings."""
MOST_CANDIDATES_OF_A_SOURCE: Final = 1000


class DeclaredShare(Declared):
    """What a source may bring, and how much its ranks weigh in the fusion."""

    quota: int = Field(ge=1, le=MOST_CANDIDATES_OF_A_SOURCE)
    weight: float = Field(1.0, gt=0, allow_inf_nan=False)


class Placement(Declared):
    """A place of the shop.

    sources: those that are asked, ``everything`` for the mixture that the rankers learned on; rank: who orders the
    candidates; pin: places, from 1, by the item that holds them; all else: see Plan.
    """

    about: str = Field(min_length=1)
    sources: Literal["everything"] | dict[str, DeclaredShare]
    same: Group | None = None
    beyond: Group | None = None
    rank: RankedBy = RankedBy.RANKERS
    fill: FilledBy = FilledBy.POPULAR
    filter: DeclaredSelector | None = None
    boost: list[DeclaredBoost] = Field([], max_length=MOST_BOOSTS)
    fatigue: DeclaredFatigue | None = None
    explore: DeclaredExploration | None = None
    pin: Pins = Field(default_factory=dict)
    caps: dict[Group, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    diversity: float = Field(0.0, ge=0, le=1)
    diversity_kind: DiversityKind = DiversityKind.MMR

    @field_validator("sources")
    @classmethod
    def _exist(cls, sources: str | dict[str, DeclaredShare]) -> str | dict[str, DeclaredShare]:
        unknown = [name for name in sources if name not in SOURCES] if isinstance(sources, dict) else []
        if unknown:
            raise ValueError(f"there is no source {unknown[0]}, only {', '.join(SOURCES)}")
        return sources

    def plan(self, diversity: float | None) -> Plan:
        """What a slate is made of; ``diversity`` is that of the request, if it asks for any."""
        return self._plan if diversity is None else replace(self._plan, diversity=diversity)

    @cached_property
    def _plan(self) -> Plan:
        return Plan(
            mixture=self._mixture(),
            ranked_by=self.rank,
            filled_by=self.fill,
            same=self.same,
            beyond=self.beyond,
            allowed=EVERYTHING_ALLOWED if self.filter is None else self.filter.selector(),
            boosts=[one.boost() for one in self.boost],
            fatigue=None if self.fatigue is None else self.fatigue.fatigue(),
            exploration=None if self.explore is None else self.explore.exploration(),
            pins={place - 1: item_id for item_id, place in self.pin.items()},
            caps=self.caps,
            diversity=self.diversity,
            diversity_kind=self.diversity_kind,
        )

    def _mixture(self) -> Mixture:
        if isinstance(self.sources, str):
            return EVERYTHING
        return {name: Share(share.quota, share.weight) for name, share in self.sources.items()}


_FILE: Final = TypeAdapter(dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")], Placement])


def placements_of(own: Path | None) -> Mapping[str, Placement]:
    """The shipped placements, by name, and a shop's own, which take the place of those of the same name."""
    return {**read_placements(SHIPPED), **(read_placements(own) if own else {})}


def read_placements(path: Path) -> Mapping[str, Placement]:
    """The placements of a file, by name. Raises InputError that names the line of what is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        require_distinct(tree, path)
        return _FILE.validate_python(yaml.safe_load(text))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"placements cannot be read: {error}") from None
    except yaml.MarkedYAMLError as error:
        mark = cast("yaml.Mark", error.problem_mark)
        raise InputError(f"{path}, line {mark.line + 1}: {error.problem}") from None
    except ValidationError as error:
        # What could be one of several things is told as the one that fits furthest.
        wrong = max(error.errors(), key=lambda one: len(one["loc"]))
        line, keys = find(tree, wrong["loc"])
        where = ".".join([*keys, str(wrong["loc"][-1])] if wrong["type"] == "missing" else keys)
        raise InputError(f"{path}, line {line}: {where}: {wrong['msg']}") from None
