"""What a check says."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from feature_repo.schema import SECOND


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """What a check found; ``cure`` is a line that says what to do, empty where all is well."""

    level: Level
    found: str
    cure: str = ""


def date_text(microseconds: int) -> str:
    """A moment, counted in microseconds since 1970, as a person reads it."""
    return f"{datetime.fromtimestamp(microseconds / SECOND, UTC):%Y-%m-%d %H:%M} UTC"
