"""From received events to logged ones: what the API refuses, and why."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final
from uuid import uuid4

from feature_repo.errors import InputError
from feature_repo.events import LoggedEvent
from feature_repo.schema import DAY, ITEMLESS_TYPES, SECOND, Event, EventType
from feature_repo.settings import Settings
from serving.received import ReceivedEvent
from serving.replies import Problem

NEEDED: Final[Mapping[EventType, str]] = {
    EventType.SEARCH: Event.QUERY,
    EventType.RATE: Event.VALUE,
    EventType.REDEEM: Event.CAMPAIGN,
}
"""The field that makes sense of an event of this type."""


class RefusedEventsError(InputError):
    """Events that cannot be logged; ``problems`` names each field and what is wrong with it."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(f"{problem.field}: {problem.message}" for problem in problems))
        self.problems = problems


def to_log(received: Sequence[ReceivedEvent], now: int, settings: Settings) -> list[LoggedEvent]:
    """Events that arrive ``now`` (microseconds since 1970), with an id and a time where they had none.

    Raises RefusedEventsError when any of them breaks a rule.
    """
    problems = [
        Problem(field=f"events.{n}.{field}", message=message)
        for n, event in enumerate(received)
        for field, message in _problems(event, now, settings)
    ]
    if problems:
        raise RefusedEventsError(problems)
    return [_logged(event, now) for event in received]


def _problems(event: ReceivedEvent, now: int, settings: Settings) -> Iterator[tuple[str, str]]:
    kind = event.event_type
    if event.user_id is None and event.visitor_id is None:
        yield Event.USER, "a user_id or a visitor_id is needed"
    if event.item_id is None and kind not in ITEMLESS_TYPES:
        yield Event.ITEM, f"is needed for {kind}"
    needed = NEEDED.get(kind)
    if needed and getattr(event, needed) is None:
        yield needed, f"is needed for {kind}"
    ahead = (event.timestamp if event.timestamp is not None else now) - now
    if ahead > settings.event_max_ahead_seconds * SECOND:
        yield Event.TIMESTAMP, f"is more than {settings.event_max_ahead_seconds:g} seconds ahead of now"
    if -ahead > settings.event_max_age_days * DAY:
        yield Event.TIMESTAMP, f"is older than {settings.event_max_age_days:g} days: use `freshet import`"


def _logged(event: ReceivedEvent, now: int) -> LoggedEvent:
    given = vars(event) | {
        Event.ID: event.event_id or uuid4().hex,
        Event.TYPE: event.event_type.value,
        Event.TIMESTAMP: now if event.timestamp is None else event.timestamp,
    }
    return LoggedEvent(**given, arrival_time=now)
