"""The manifest of a bundle that is being made."""

import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from feature_repo.ranking_features import RANKING_COLUMNS, RANKING_HASH
from serving.bundle import Manifest


def new_version(created: int) -> str:
    """Name of a model whose training began at ``created`` (microseconds); later ones sort behind."""
    return datetime.fromtimestamp(created / 1e6, UTC).strftime("%Y%m%dT%H%M%S%fZ")


def new_manifest(version: str, created: int, start: int, end: int) -> Manifest:
    """The manifest of a model of the events in [start, end); all times in microseconds."""
    return Manifest(
        version=version,
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
