"""Placements: what each place of the shop asks for, declared in one YAML file.

A placement is a mixture of sources, what may be shown, how it is ranked and re-ranked. The file is checked as a
whole, and a message names the line that is wrong.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, cast

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from feature_repo.errors import InputError
from feature_repo.ranking_features import SOURCES
from serving.plan import EVERYTHING, FilledBy, Group, Mixture, Plan, RankedBy, Share
from serving.reranking import DiversityKind

SHIPPED: Final = Path(__file__).with_name("placements.yaml")
HOME: Final = "home"
"""The placement of a request that names none."""
RERANK: Final = "rerank"
"""The placement of items that the caller brings."""
MOST_CANDIDATES_OF_A_SOURCE: Final = 1000


class Declared(BaseModel):
    """Part of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DeclaredShare(Declared):
    """What a source may bring, and how much its ranks weigh in the fusion."""

    quota: int = Field(ge=1, le=MOST_CANDIDATES_OF_A_SOURCE)
    weight: float = Field(1.0, gt=0, allow_inf_nan=False)


class Placement(Declared):
    """A place of the shop.

    sources: those that are asked, ``everything`` for the mixture that the rankers learned on; same, beyond, caps
    and diversity: see Plan; rank: who orders the candidates.
    """

    about: str = Field(min_length=1)
    sources: Literal["everything"] | dict[str, DeclaredShare]
    same: Group | None = None
    beyond: Group | None = None
    rank: RankedBy = RankedBy.RANKERS
    fill: FilledBy = FilledBy.POPULAR
    caps: dict[Group, Annotated[int, Field(ge=1)]] = {}
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
        return Plan(
            mixture=self._mixture(),
            ranked_by=self.rank,
            filled_by=self.fill,
            same=self.same,
            beyond=self.beyond,
            caps=self.caps,
            diversity=self.diversity if diversity is None else diversity,
            diversity_kind=self.diversity_kind,
        )

    def _mixture(self) -> Mixture:
        if isinstance(self.sources, str):
            return EVERYTHING
        return {name: Share(share.quota, share.weight) for name, share in self.sources.items()}


_FILE: Final = TypeAdapter(dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")], Placement])


def read_placements(path: Path) -> Mapping[str, Placement]:
    """The placements of a file, by name. Raises InputError that names the line of what is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        _require_distinct(tree, path)
        placements = _FILE.validate_python(yaml.safe_load(text))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"placements cannot be read: {error}") from None
    except yaml.MarkedYAMLError as error:
        mark = cast("yaml.Mark", error.problem_mark)
        raise InputError(f"{path}, line {mark.line + 1}: {error.problem}") from None
    except ValidationError as error:
        # What could be one of several things is told as the one that fits furthest.
        wrong = max(error.errors(), key=lambda one: len(one["loc"]))
        line, keys = _place(tree, wrong["loc"])
        where = ".".join([*keys, str(wrong["loc"][-1])] if wrong["type"] == "missing" else keys)
        raise InputError(f"{path}, line {line}: {where}: {wrong['msg']}") from None
    for name, asked in ((HOME, "requests that name none"), (RERANK, "POST /v1/rerank")):
        if name not in placements:
            raise InputError(f"{path} declares no placement {name}, which answers {asked}")
    return placements


def _require_distinct(node: yaml.Node | None, path: Path) -> None:
    """Raise InputError where a key stands twice: YAML would silently take the last."""
    if not isinstance(node, yaml.MappingNode):
        return
    seen = set()
    for key, value in node.value:
        if key.value in seen:
            raise InputError(f"{path}, line {key.start_mark.line + 1}: {key.value} stands twice")
        seen.add(key.value)
        _require_distinct(value, path)


def _place(node: yaml.Node | None, location: tuple[int | str, ...]) -> tuple[int, list[str]]:
    """Line of the innermost key of a location that the file has, from 1, and the keys on the way to it."""
    line = node.start_mark.line if node else 0
    found = []
    for step in location:
        for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
            if key.value == step:
                line, node = key.start_mark.line, value
                found.append(str(step))
                break
    return line + 1, found
