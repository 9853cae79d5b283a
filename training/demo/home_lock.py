"""One demo at a time on a home: two would write to the same databases and logs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from feature_repo.errors import InputError

_LOCK: Final = ".demo.lock"
_PROCESS: Final = ".demo.pid"


@contextmanager
def sole_demo(home: Path) -> Iterator[None]:
    """Hold the home, which is made if need be, for this demo; the system lets go of it however the demo ends.

    Raises InputError, with the number of the process, when another demo holds it.
    """
    home.mkdir(parents=True, exist_ok=True)
    holder = home / _PROCESS
    try:
        held = FileLock(home / _LOCK).acquire(timeout=0)
    except Timeout:
        number = holder.read_text() if holder.exists() else "unknown"
        raise InputError(
            f"the demo of {home} already runs (process {number}): stop it with Ctrl-C, or set FRESHET_HOME"
        ) from None
    with held:
        holder.write_text(str(os.getpid()))
        yield
