"""Whatever descends from this process ends with it, also what lost its own parent on the way."""

import ctypes
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

import psutil

_PR_SET_CHILD_SUBREAPER: Final = 36
_GONE_SECONDS: Final = 5.0


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent dies, so that they can be found. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_descendants() -> None:
    """Kill every descendant of this process and wait until they are gone.

    Those whose parent dies meanwhile become children of this process, so it looks again until there are none.
    """
    deadline = time.monotonic() + _GONE_SECONDS
    while (children := psutil.Process().children()) and time.monotonic() < deadline:
        end_trees(children)


def end_trees(roots: Iterable[psutil.Process]) -> None:
    """Kill the processes and all that descend from them, and wait until they are gone."""
    doomed = [process for root in roots for process in tree(root)]
    for process in doomed:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(doomed, timeout=_GONE_SECONDS)


def tree(root: psutil.Process) -> list[psutil.Process]:
    """A process and its descendants; without those that are gone meanwhile."""
    with suppress(psutil.NoSuchProcess):
        return [root, *root.children(recursive=True)]
    return []
