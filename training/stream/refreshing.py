"""Refreshing the live model now and then, in a process of its own: it takes a core and memory for a while."""

import asyncio
import logging
import sys
from asyncio.subprocess import PIPE
from contextlib import suppress
from typing import Final

from feature_repo.settings import Settings
from training.stream.stopping import rest

NICENESS: Final = 10
"""Events, and shoppers, come first."""
COMMAND: Final = (
    sys.executable,
    "-c",
    f"import os; os.nice({NICENESS}); from training.cli import main; main()",
    "refresh",
)

logger = logging.getLogger(__name__)


async def refresh_now_and_then(settings: Settings, stopping: asyncio.Event) -> None:
    """Run ``freshet refresh`` every so many seconds, if the settings say so; a failure is told of once."""
    if not settings.refresh_seconds:
        return
    told = ""
    await rest(stopping, settings.refresh_seconds)
    while not stopping.is_set():
        failure = await _refresh(stopping)
        if failure and failure != told:
            logger.warning("the model was not refreshed: %s", failure)
        told = failure
        await rest(stopping, settings.refresh_seconds)


async def _refresh(stopping: asyncio.Event) -> str:
    """Refresh, or stop doing so with the stream; returns why it failed, else nothing."""
    process = await asyncio.create_subprocess_exec(*COMMAND, stdout=PIPE, stderr=PIPE)
    output = asyncio.create_task(process.communicate())
    ending = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait([output, ending], return_when=asyncio.FIRST_COMPLETED)
    finally:
        ending.cancel()
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
        said, errors = await output
    if stopping.is_set():
        return ""
    if process.returncode:
        return _last_line(errors) or f"exit code {process.returncode}"
    logger.info("refreshed: %s", _last_line(said))
    return ""


def _last_line(text: bytes) -> str:
    return text.decode(errors="replace").strip().rpartition("\n")[2]
