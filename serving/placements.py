"""Placements: what each place of the shop asks for, declared in one YAML file.

A placement is a mixture of sources, what may be shown, how it is ranked and re-ranked. The file is checked as a
whole, and a message names the line that is wrong.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from feature_repo.errors import InputError
from feature_repo.ranking_features import SOURCES
from serving.mixture import EVERYTHING, Mixture, Share

SHIPPED: Final = Path(__file__).with_name("placements.yaml")
HOME: Final = "home"
"""The placement of a request that names none."""
MOST_CANDIDATES_OF_A_SOURCE: Final = 1000

Group = Literal["category", "department", "brand"]


class Declared(BaseModel):
    """Part of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DeclaredShare(Declared):
    """What a source may bring, and how much its ranks weigh in the fusion."""

    quota: int = Field(ge=1, le=MOST_CANDIDATES_OF_A_SOURCE)
    weight: float = Field(1.0, gt=0, allow_inf_nan=False)


class Placement(Declared):
    """A place of the shop.

    sources: those that are asked, ``everything`` for the mixture that the rankers learned on; same: what a
    candidate must share with the item that the page is about; rank: who orders the candidates, the rankers or the
    sources.
    """

    about: str = Field(min_length=1)
    sources: Literal["everything"] | dict[str, DeclaredShare]
    same: Group | None = None
    rank: Literal["rankers", "sources"] = "rankers"
    caps: dict[Group, Annotated[int, Field(ge=1)]] = {}
    diversity: float = Field(0.0, ge=0, le=1)

    @field_validator("sources")
    @classmethod
    def _exist(cls, sources: str | dict[str, DeclaredShare]) -> str | dict[str, DeclaredShare]:
        unknown = [name for name in sources if name not in SOURCES] if isinstance(sources, dict) else []
        if unknown:
            raise ValueError(f"there is no source {unknown[0]}, only {', '.join(SOURCES)}")
        return sources

    @property
    def mixture(self) -> Mixture:
        """The sources in the words of retrieval."""
        if isinstance(self.sources, str):
            return EVERYTHING
        return {name: Share(share.quota, share.weight) for name, share in self.sources.items()}


_FILE: Final = TypeAdapter(dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")], Placement])


def read_placements(path: Path) -> Mapping[str, Placement]:
    """The placements of a file, by name. Raises InputError that names the line of what is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        placements = _FILE.validate_python(yaml.safe_load(text))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"placements cannot be read: {error}") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InputError(f"{path}, line {line}: {error.problem}") from None
    except ValidationError as error:
        wrong = error.errors()[0]
        where = ".".join(map(str, wrong["loc"]))
        raise InputError(f"{path}, line {_line(tree, wrong['loc'])}: {where}: {wrong['msg']}") from None
    if HOME not in placements:
        raise InputError(f"{path} declares no placement {HOME}, which answers requests that name none")
    return placements


def _line(node: yaml.Node | None, where: tuple[int | str, ...]) -> int:
    """Line of the innermost key on the way that the file has, from 1."""
    line = node.start_mark.line if node else 0
    for step in where:
        if not isinstance(node, yaml.MappingNode):
            continue
        for key, value in node.value:
            if key.value == step:
                line, node = key.start_mark.line, value
                break
    return line + 1
