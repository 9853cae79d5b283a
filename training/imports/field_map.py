"""The field map: how a shop's columns become Freshet's. Declarative YAML; docs/import.md explains each key."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from feature_repo.errors import InputError
from feature_repo.schema import EVENT_SCHEMA, ITEM_SCHEMA, USER_SCHEMA, Event, EventType, Item

Unit = Literal["s", "ms", "us"]
DerivedName = Literal["title", "category", "brand", "price"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


class Condition(_Strict):
    """A test of one column of the file, as text; ``below`` and ``above`` read it as a number."""

    column: str
    equals: str | None = None
    in_: list[str] | None = Field(None, alias="in")
    matches: str | None = None
    not_matches: str | None = None
    below: float | None = None
    above: float | None = None
    missing: bool | None = None

    @model_validator(mode="after")
    def _one_test(self) -> Self:
        if len(self.model_fields_set - {"column"}) != 1:
            raise ValueError("give exactly one of equals, in, matches, not_matches, below, above, missing")
        try:
            pc.match_substring_regex(pa.array([""]), self.matches or self.not_matches or "")
        except pa.ArrowInvalid as error:
            raise ValueError(f"not a regular expression of RE2's: {error}") from error
        return self


Conditions = Annotated[list[Condition], Field(min_length=1)]


class RejectRule(_Strict):
    """Rows for which every condition holds are rejected with this reason."""

    reason: str
    when: Conditions


class ChangeRule(_Strict):
    """Rows for which every condition holds get Freshet's columns set, or made positive."""

    when: Conditions
    set_: dict[str, str] = Field({}, alias="set")
    absolute: list[str] = []


class TableMap(_Strict):
    """How one file becomes one table. Keys of the dictionaries are Freshet's columns."""

    columns: dict[str, str | list[str]] = {}
    constants: dict[str, str] = {}
    units: dict[str, Unit] = {}
    upper: list[str] = []
    properties: list[str] = []
    reject: list[RejectRule] = []
    change: list[ChangeRule] = []

    def require_known_columns(self, section: str, known: Sequence[str]) -> None:
        """Raise ValueError when the map names a column that Freshet's table lacks."""
        changed = [name for rule in self.change for name in (*rule.set_, *rule.absolute)]
        for name in (*self.columns, *self.constants, *self.units, *self.upper, *changed):
            if name not in known:
                raise ValueError(f"{section}: Freshet has no column {name!r}; it has {', '.join(known)}")
        for name, source in self.columns.items():
            if isinstance(source, list) and name != Item.CATEGORY:
                raise ValueError(f"{section}.columns.{name}: only category may be made of several columns")
        positive = [name for rule in self.change for name in rule.absolute]
        for name in (*self.units, *self.upper, *positive):
            if name not in self.columns:
                raise ValueError(
                    f"{section}: {name} is to be converted, but columns names no source for it: add it"
                )
        if self.properties and "properties" in self.columns:
            raise ValueError(f"{section}: properties come from a column and from a list of columns: keep one")
        for name in self.constants:
            if name in self.columns:
                raise ValueError(f"{section}: {name} is both a column and a constant: keep one")

    def translations(self) -> dict[str, dict[str, str]]:
        """Freshet's column -> the file's word -> Freshet's word."""
        return {}

    def source_columns(self) -> dict[str, str]:
        """Column of the file -> the key of the map that names it."""
        named: dict[str, str] = {}
        for name, source in self.columns.items():
            for column in [source] if isinstance(source, str) else source:
                named.setdefault(column, f"columns.{name}")
        for column in self.properties:
            named.setdefault(column, "properties")
        for key, rules in (("reject", self.reject), ("change", self.change)):
            for rule in rules:
                for condition in rule.when:
                    named.setdefault(condition.column, f"{key}.when")
        return named


AnyTableMap = TypeVar("AnyTableMap", bound="TableMap")


class EventsMap(TableMap):
    """How the event file becomes events."""

    event_types: dict[str, EventType] = {}

    def translations(self) -> dict[str, dict[str, str]]:
        """Those of the event types; a type that is not named keeps its name."""
        return {Event.TYPE: {word: kind.value for word, kind in self.event_types.items()}}


class DerivedColumn(_Strict):
    """A column of the catalog taken from the event file: one value per item."""

    column: str
    keep: Literal["newest", "most_frequent"]


class FieldMap(_Strict):
    """The whole map. A table without a section has Freshet's own columns."""

    delimiter: str = Field(",", min_length=1, max_length=1)
    encoding: str = "utf-8"
    decimal: Literal[".", ","] = "."
    missing: list[str] = []
    events: EventsMap | None = None
    items: TableMap | None = None
    users: TableMap | None = None
    items_from_events: dict[DerivedName, DerivedColumn] = {}

    @model_validator(mode="after")
    def _known_columns(self) -> Self:
        event_columns = [name for name in EVENT_SCHEMA.names if name != Event.ARRIVAL]
        for section, table_map, known in (
            ("events", self.events, event_columns),
            ("items", self.items, ITEM_SCHEMA.names),
            ("users", self.users, USER_SCHEMA.names),
        ):
            if table_map is not None:
                table_map.require_known_columns(section, known)
        return self


def load_field_map(path: Path) -> FieldMap:
    """Read a map; raises InputError that names file, line, key and cure."""
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check the path of the map") from error
    except (yaml.YAMLError, UnicodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else f"{path}"
        reason = getattr(error, "problem", None) or "not UTF-8 text"
        raise InputError(f"{where} is not YAML ({reason}): mind indentation, quotes and colons") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a map: it needs keys such as 'events:' (docs/import.md)")
    try:
        return FieldMap.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        line = _line_of(tree, first["loc"])
        key = ".".join(str(part) for part in first["loc"] if part != "[key]")
        where = f"{path}:{line}: {key}" if key else f"{path}"
        raise InputError(f"{where}: {_what_and_cure(first)}") from error


def _line_of(node: yaml.Node | None, location: Sequence[int | str]) -> int:
    """Line of the deepest node on the way to ``location``, counted from 1."""
    line = 1 if node is None else node.start_mark.line + 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = next((pair for pair in node.value if pair[0].value == str(part)), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line


def _what_and_cure(error: ErrorDetails) -> str:
    if error["type"] == "extra_forbidden":
        keys = {key for model in _MODELS for key in _keys(model)}
        close = difflib.get_close_matches(str(error["loc"][-1]), keys, n=1)
        return f"no such key here; {f'did you mean {close[0]!r}?' if close else 'docs/import.md lists them'}"
    if error["type"] == "missing":
        return "this key is missing: add it"
    if error["type"] == "string_type":
        return f"expected text, found {error['input']!r}: put it in quotes"
    return error["msg"].removeprefix("Value error, ")


def _keys(model: type[_Strict]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


_MODELS: tuple[type[_Strict], ...] = (FieldMap, EventsMap, ChangeRule, RejectRule, Condition, DerivedColumn)


def own_columns(kind: type[AnyTableMap], names: Sequence[str], schema: pa.Schema) -> AnyTableMap:
    """Map of a file that has Freshet's own columns; its times may also be whole microseconds."""
    known = [name for name in schema.names if name in names and name != Event.ARRIVAL]
    times = [name for name in known if pa.types.is_timestamp(schema.field(name).type)]
    return kind(columns={name: name for name in known}, units=dict.fromkeys(times, "us"))
