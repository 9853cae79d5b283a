"""Threads for the work of slates: bounded, and none is waited for beyond its time."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, TypeVar

Result = TypeVar("Result")

MOST_STUCK: Final = 4
"""Threads that may be stuck beside the one that works."""


class Workers:
    """Lets one thread at a time work for the event loop: more would only contend for the interpreter.

    Who works beyond its time is stuck: its result is dropped, and another thread takes over, while there is one.
    """

    def __init__(self) -> None:
        # An executor has futures of its own, and to tie them to the loop's takes longer than the hand-over.
        self._given: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._turn = asyncio.Lock()
        self._threads = 0
        self._stuck = 0

    async def run(self, work: Callable[[], Result], until: float) -> Result:
        """The result of the work. Raises TimeoutError when there is none ``until`` (seconds of time.monotonic)."""
        async with asyncio.timeout(until - time.monotonic()), self._turn:
            if self._stuck == MOST_STUCK:
                raise TimeoutError
            if self._threads == self._stuck:
                Thread(target=self._serve, name=f"slates-{self._threads}", daemon=True).start()
                self._threads += 1
            loop = asyncio.get_running_loop()
            result: asyncio.Future[Result] = loop.create_future()
            self._given.put(partial(self._do, work, result, loop))
            try:
                return await result
            finally:
                if result.cancelled():  # time is up, or who asked went away
                    self._stuck += 1

    def close(self) -> None:
        """Have every thread end once it is free; no work may follow."""
        for _ in range(self._threads):
            self._given.put(None)

    def _serve(self) -> None:
        while job := self._given.get():
            job()
            del job  # so that waiting for the next keeps no model

    def _do(
        self, work: Callable[[], Result], result: asyncio.Future[Result], loop: asyncio.AbstractEventLoop
    ) -> None:
        try:
            tell = partial(result.set_result, work())
        except StopIteration:  # a future cannot hold it
            tell = partial(result.set_exception, RuntimeError("the work raised StopIteration"))
        except BaseException as error:  # whatever it is, the thread lives on
            tell = partial(result.set_exception, error)
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(self._came_back, result, tell)

    def _came_back(self, result: asyncio.Future[Any], tell: Callable[[], None]) -> None:
        if result.cancelled():
            self._stuck -= 1
        else:
            tell()
