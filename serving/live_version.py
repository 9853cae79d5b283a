"""Which bundle is live: ``models/CURRENT`` names a version, ``models/REFRESHED`` the newest bundle assembled of it.

A version is trained, judged and published under ``models/<version>/``. Between trainings it is assembled anew from
what has happened, as ``models/refreshed/<version>-<fingerprint>/``. A refreshed bundle counts only while CURRENT
names its version, so that publishing and rolling back need not know of it.
"""

import logging
import shutil
from pathlib import Path
from typing import Final

from feature_repo.durable_file import replace_file
from feature_repo.errors import BundleError
from serving.bundle import Bundle
from serving.bundle_files import read_bundle

CURRENT: Final = "CURRENT"
REFRESHED: Final = "REFRESHED"
FOLDER: Final = "refreshed"

logger = logging.getLogger(__name__)


def current_version(models: Path) -> str | None:
    """Version that is live under ``models``, None before the first is published."""
    return _named_in(models / CURRENT)


def set_current(models: Path, version: str) -> None:
    """Make ``version`` the live one, atomically."""
    replace_file(models / CURRENT, f"{version}\n".encode())


def live_directories(models: Path) -> list[Path]:
    """Where the live model stands: its refreshed bundle, if any, then the trained one; none before the first."""
    version, refreshed = current_version(models), refreshed_directory(models)
    if version is None:
        return []
    trained = models / version
    if refreshed is None or refreshed.name.rpartition("-")[0] != version:
        return [trained]
    return [refreshed, trained]


def place_of(models: Path, directory: Path) -> str:
    """How a bundle is named by where it stands under ``models``."""
    return directory.relative_to(models).as_posix()


def read_live_bundle(models: Path) -> Bundle:
    """The bundle that is live under ``models``; BundleError when none was published or it cannot be used.

    A refreshed one that cannot be used does no harm: the trained one answers in its place.
    """
    directories = live_directories(models)
    if not directories:
        raise BundleError(f"no model is published under {models}: run `freshet train` to make one")
    *refreshed, trained = directories
    for directory in refreshed:
        try:
            return read_bundle(directory)
        except BundleError as error:
            logger.warning("the refreshed bundle is passed over: %s", error)
    return read_bundle(trained)


def refreshed_directory(models: Path) -> Path | None:
    """The newest refreshed bundle, of whatever version; None without any."""
    name = _named_in(models / REFRESHED)
    return None if name is None else models / FOLDER / name


def new_refreshed_directory(models: Path, version: str, fingerprint: str) -> Path:
    """Where a refreshed bundle of a version belongs, made from inputs of this fingerprint (without a hyphen)."""
    return models / FOLDER / f"{version}-{fingerprint}"


def set_refreshed(models: Path, directory: Path, *, keep: int) -> None:
    """Make a refreshed bundle the one that counts, atomically; of the others only the ``keep`` - 1 newest stay."""
    replace_file(models / REFRESHED, f"{directory.name}\n".encode())
    others = [other for other in (models / FOLDER).iterdir() if other != directory]
    whole = [other for other in others if not other.name.startswith(".")]
    newest_first = sorted(whole, key=lambda other: other.stat().st_mtime_ns, reverse=True)
    for other in others:
        if other not in newest_first[: keep - 1]:
            shutil.rmtree(other)


def remove_refreshed(models: Path) -> None:
    """Go back to the trained bundle, and remove all refreshed ones."""
    (models / REFRESHED).unlink(missing_ok=True)
    shutil.rmtree(models / FOLDER, ignore_errors=True)


def _named_in(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return None
