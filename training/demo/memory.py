"""How much memory the platform takes, and which processes there were."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import psutil

_SAMPLE_SECONDS: Final = 2.0


class MemoryWatch:
    """Samples this process and all its descendants."""

    def __init__(self) -> None:
        self.peak = 0
        """Most bytes that all of them took together at a time; shared pages count once."""
        self._seen: dict[int, psutil.Process] = {}

    def survivors(self) -> list[str]:
        """Descendants, of any sample, that still run."""
        return [f"{process.pid} {_name(process)}" for process in self._seen.values() if process.is_running()]

    def sample(self) -> None:
        """Look once."""
        own = psutil.Process()
        descendants = own.children(recursive=True)
        self._seen.update((process.pid, process) for process in descendants)
        self.peak = max(self.peak, sum(map(_proportional_bytes, [own, *descendants])))


@contextmanager
def watched_memory() -> Iterator[MemoryWatch]:
    """Sample every two seconds until the context ends."""
    watch = MemoryWatch()
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(_SAMPLE_SECONDS):
            watch.sample()

    thread = threading.Thread(target=run, name="memory", daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        ended.set()
        thread.join()


def _proportional_bytes(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        return int(process.memory_full_info().pss)
    return 0


def _name(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return process.name()
    return "(ended)"
