"""The manifest of a bundle that is being made."""

import shutil
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

from feature_repo.ranking_features import RANKING_COLUMNS, RANKING_HASH
from serving.bundle import Manifest


def new_manifest(start: int, end: int) -> Manifest:
    """A manifest of now, for a model of the events in [start, end)."""
    created = time.time_ns() // 1000
    return Manifest(
        version=datetime.fromtimestamp(created / 1e6, UTC).strftime("%Y%m%dT%H%M%S%fZ"),
        created=created,
        training_start=start,
        training_end=end,
        feature_hash=RANKING_HASH,
        feature_columns=list(RANKING_COLUMNS),
        metrics={},
        git_revision=_git_revision(),
        checksums={},
    )


def _git_revision() -> str:
    git = shutil.which("git")
    if git is None:
        return "unknown"
    command = [git, "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return found.stdout.strip() or "unknown"
