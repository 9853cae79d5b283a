"""Folders that hold what happened on one day, UTC: ``date=2025-06-01``."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

from feature_repo.schema import SECOND

_PREFIX: Final = "date="


def day_of(moment: int) -> date:
    """The day of a moment in microseconds since 1970, UTC."""
    return datetime.fromtimestamp(moment // SECOND, UTC).date()


def folder_of(moment: int) -> str:
    """Name of the folder of the day of a moment."""
    return f"{_PREFIX}{day_of(moment).isoformat()}"


def folders_before(root: Path, day: date) -> list[Path]:
    """The folders in ``root`` of the days before one."""
    return [path for path in root.glob(f"{_PREFIX}*") if path.name < f"{_PREFIX}{day.isoformat()}"]
