"""Who may change what trainings and features are made of, one at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from filelock import FileLock, Timeout

from feature_repo.errors import InputError
from feature_repo.settings import Settings

LOCK: Final = ".training.lock"
FOREVER: Final = -1.0


@contextmanager
def training_lock(settings: Settings, patience: float = 0) -> Iterator[None]:
    """Hold the home's training lock.

    Raises InputError when another holds it for longer than ``patience`` seconds.
    """
    settings.home.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(settings.home / LOCK, timeout=patience):
            yield
    except Timeout:
        raise InputError(f"another training runs on {settings.home}: wait until it has ended") from None


@contextmanager
def features_lock(settings: Settings) -> Iterator[None]:
    """Hold what is between reading the log and having its features at rest, or online; waits for who holds it."""
    settings.home.mkdir(parents=True, exist_ok=True)
    with FileLock(settings.home / ".features.lock"):
        yield
