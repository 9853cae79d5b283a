"""Shedding load: when the event log is nearly full, what matters least is not taken, so that the rest still is."""

import math
from collections.abc import Sequence
from itertools import compress
from typing import Final

from feature_repo.errors import LogUnavailableError
from feature_repo.event_log import EventLog, Verdict
from feature_repo.events import LoggedEvent
from feature_repo.schema import EventType

SHED_ABOVE: Final = {
    EventType.IMPRESSION.value: 0.80,
    EventType.SEARCH.value: 0.90,
    EventType.VIEW.value: 0.90,
}
"""Share of the log's memory above which events of a type are not taken. What a shopper decided is always tried."""


class LoadShedding:
    """Knows how full the log is."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._fullness = 0.0

    async def look(self) -> None:
        """Look at the log; while it is away there is nothing to shed for."""
        try:
            self._fullness = await self._log.fullness()
        except LogUnavailableError:
            self._fullness = 0.0

    def sheds(self, event: LoggedEvent) -> bool:
        """Whether an event is not taken now."""
        return self._fullness > SHED_ABOVE.get(event.event_type, math.inf)

    async def append(self, events: Sequence[LoggedEvent]) -> list[Verdict]:
        """What became of events, those that were shed among them; raises as EventLog.append does."""
        taken = [not self.sheds(event) for event in events]
        verdicts = iter(await self._log.append(list(compress(events, taken))))
        return [next(verdicts) if one else Verdict.SHED for one in taken]
