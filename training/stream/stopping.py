"""Pauses that end when the process is to stop."""

import asyncio
from contextlib import suppress


async def rest(stopping: asyncio.Event, seconds: float) -> None:
    """Return after so many seconds, or as soon as it is to stop."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), seconds)
