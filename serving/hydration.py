"""The first stage: what the event log knows of a shopper, or how to do without."""

import asyncio
import logging
from typing import Final

from feature_repo.errors import LogUnavailableError
from feature_repo.event_log import EventLog, Shopper
from serving.in_time.breakers import Breakers

logger = logging.getLogger(__name__)

SESSION_WINDOW: Final = "session_window"


class LogState:
    """Says once that the event log went away, and once that it came back."""

    def __init__(self) -> None:
        self._away = False

    def note(self, *, away: bool) -> None:
        """Take note of how the newest call went."""
        if away != self._away:
            self._away = away
            logger.warning(
                "the event log %s", "is away: events get 503, slates do without" if away else "is back"
            )


async def hydrate(
    log: EventLog, user_id: str | None, visitor_id: str | None, patience: float, breakers: Breakers
) -> tuple[Shopper, list[str]]:
    """The shopper and what had to be left out, after at most ``patience`` seconds.

    A log that is away costs the window, not the answer; one that is silent is left alone for a while. Nobody in
    particular has no window.
    """
    nobody = Shopper(user_id, [], {})
    if user_id is None and visitor_id is None:
        return nobody, []
    if not breakers.lets_through(SESSION_WINDOW):
        return nobody, [SESSION_WINDOW]
    try:
        async with asyncio.timeout(patience):
            shopper = await log.shopper(user_id, visitor_id)
    except TimeoutError:
        breakers.missed(SESSION_WINDOW)
        return nobody, [SESSION_WINDOW]
    except LogUnavailableError:
        return nobody, [SESSION_WINDOW]
    breakers.answered(SESSION_WINDOW)
    return shopper, []


async def answers(log: EventLog, patience: float) -> bool:
    """Whether the log answers within ``patience`` seconds."""
    try:
        async with asyncio.timeout(patience):
            await log.ping()
    except (LogUnavailableError, TimeoutError):
        return False
    return True
