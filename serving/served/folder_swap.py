"""A folder of files gives its place to another as a whole: by two renames, so that no kill loses anything.

    date=2025-06-01            what is read
    .merged-date=2025-06-01    what is to take its place, while it is written
    .before-date=2025-06-01    what had its place, until it is removed

One swaps and mends at a time, under a lock; who reads without it looks in all the ``places``.
"""

import shutil
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Final

from feature_repo.durable_file import sync

_STAGED: Final = ".merged-"
_BEFORE: Final = ".before-"


def staged(folder: Path) -> Path:
    """Where to write what is to take the place of a folder."""
    return folder.with_name(_STAGED + folder.name)


def places(folder: Path) -> tuple[Path, Path, Path]:
    """Where to look for what a folder holds, in this order, so that no swap between two looks hides it.

    A file that vanishes meanwhile is in one of the places that follow.
    """
    return folder, _before(folder), folder


def swap(folder: Path, names: AbstractSet[str]) -> None:
    """Put what is staged, all of it on disk, in the place of ``folder`` and its files of these ``names``.

    Raises OSError, also where the folder has files of other names; ``mend`` then brings it back.
    """
    before = _before(folder)
    folder.rename(before)
    strangers = {path.name for path in before.glob("[!.]*")} - names
    if strangers:
        raise FileExistsError(f"{folder} has files that came late: {', '.join(sorted(strangers)[:3])}")
    staged(folder).rename(folder)
    sync(folder.parent)
    shutil.rmtree(before)


def mend(parent: Path) -> None:
    """Undo each swap in a folder that was not done, end each that was, and remove what was staged for it.

    Raises OSError.
    """
    for before in parent.glob(f"{_BEFORE}*"):
        folder = before.with_name(before.name.removeprefix(_BEFORE))
        if staged(folder).exists() or not folder.exists():
            _bring_back(before, folder)
        else:
            shutil.rmtree(before, ignore_errors=True)
    for left in parent.glob(f"{_STAGED}*"):
        shutil.rmtree(left, ignore_errors=True)


def _before(folder: Path) -> Path:
    return folder.with_name(_BEFORE + folder.name)


def _bring_back(before: Path, folder: Path) -> None:
    if folder.exists():  # a writer has made it anew between the renames
        for path in before.iterdir():
            path.rename(folder / path.name)
        sync(folder)
        before.rmdir()
    else:
        before.rename(folder)
    sync(folder.parent)
