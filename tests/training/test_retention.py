"""What was served goes when its time has come, and not before."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from feature_repo.settings import Settings
from training.retention import forget_served


def day(ago: int) -> str:
    return f"date={(datetime.fromtimestamp(time.time(), UTC) - timedelta(days=ago)).date().isoformat()}"


def test_days_past_their_time_are_forgotten(settings: Settings, tmp_path: Path) -> None:
    short = settings.model_copy(update={"served_log_days": 5, "replay_days": 2})
    folders = [
        *(f"served/{table}/{day(ago)}" for table in ("requests", "items") for ago in (0, 5, 6, 400)),
        *(f"replay/{kind}/{day(ago)}/layer" for kind in ("catalog", "activity") for ago in (0, 3, 4)),
        "archive/event_date=2020-01-01",
    ]
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "file").touch()
    assert forget_served(short) == 6
    assert sorted(str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("file")) == sorted(
        folder for folder in folders if not folder.removesuffix("/layer").endswith((day(6), day(400), day(4)))
    )
    assert forget_served(short) == 0
