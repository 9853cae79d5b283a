"""Who may change what trainings, bundles and features are made of, one at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from filelock import FileLock, Timeout

from feature_repo.errors import InputError
from feature_repo.settings import Settings
from serving.served.folder_swap import mend
from serving.served.served_log import ITEMS, REQUESTS

LOCK: Final = ".training.lock"
REFRESH_LOCK: Final = ".refresh.lock"
FEATURES_LOCK: Final = ".features.lock"
FOREVER: Final = -1.0
AT_ONCE: Final = 0.0
A_MOMENT: Final = 0.5
"""Seconds that a training waits to begin: ``require_no_training`` holds the lock for less."""


@contextmanager
def training_lock(settings: Settings, patience: float = A_MOMENT) -> Iterator[None]:
    """Hold the home's training lock.

    Raises InputError when another holds it for longer than ``patience`` seconds.
    """
    held = f"another training runs on {settings.home}: wait until it has ended"
    with _lock(settings, LOCK, patience, held):
        yield


@contextmanager
def refresh_lock(settings: Settings, patience: float) -> Iterator[None]:
    """Hold what is between reading the log and having a refreshed bundle of it.

    It is another than a training's, so that no step of a training fails because a refresh has begun before it.
    Raises InputError when another holds it for longer than ``patience`` seconds.
    """
    held = f"a refresh or an erasure runs on {settings.home}: wait until it has ended"
    with _lock(settings, REFRESH_LOCK, patience, held):
        yield


def require_no_training(settings: Settings) -> None:
    """Raise InputError while a step of a training, or an erasure, runs."""
    with training_lock(settings, AT_ONCE):
        pass


@contextmanager
def features_lock(settings: Settings) -> Iterator[None]:
    """Hold what is between reading the log and having its features at rest, or online; waits for who holds it."""
    settings.home.mkdir(parents=True, exist_ok=True)
    with FileLock(settings.home / FEATURES_LOCK):
        yield


@contextmanager
def served_lock(settings: Settings, patience: float) -> Iterator[None]:
    """Hold the files of the served log that servers are done with; what a killed merge left behind is mended first.

    Raises InputError when another holds them for longer than ``patience`` seconds.
    """
    held = f"the served log of {settings.home} is merged or read: wait until that has ended"
    with _lock(settings, ".served.lock", patience, held):
        for table in (REQUESTS, ITEMS):
            mend(settings.served_dir / table)
        yield


@contextmanager
def _lock(settings: Settings, name: str, patience: float, held: str) -> Iterator[None]:
    """Hold a lock of the home. Raises InputError that says ``held`` after so many seconds."""
    settings.home.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(settings.home / name, timeout=patience):
            yield
    except Timeout:
        raise InputError(held) from None
