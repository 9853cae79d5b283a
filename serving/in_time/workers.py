"""Threads for the work of slates: bounded, and none is waited for beyond its time."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

Result = TypeVar("Result")

MOST_STUCK: Final = 4
"""Threads that may be stuck beside the one that works."""


class Workers:
    """Lets one thread at a time work for the event loop: more would only contend for the interpreter.

    Who works beyond its time is stuck: its result is dropped, and another thread takes over, while there is one.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1 + MOST_STUCK, thread_name_prefix="slates")
        self._turn = asyncio.Lock()
        self._stuck = 0

    async def run(self, work: Callable[[], Result], until: float) -> Result:
        """The result of the work. Raises TimeoutError when there is none ``until`` (seconds of time.monotonic)."""
        async with asyncio.timeout(until - time.monotonic()):
            await self._turn.acquire()
        try:
            if self._stuck == MOST_STUCK:
                raise TimeoutError
            working = asyncio.get_running_loop().run_in_executor(self._pool, work)
            try:
                await asyncio.wait({working}, timeout=until - time.monotonic())
            finally:
                if not working.done():  # in time, or before who asked went away
                    self._stuck += 1
                    working.add_done_callback(self._is_free)
            if not working.done():
                raise TimeoutError
            return working.result()
        finally:
            self._turn.release()

    def _is_free(self, working: asyncio.Future[Result]) -> None:
        self._stuck -= 1
        working.exception()  # whatever it was, nobody asks any more
