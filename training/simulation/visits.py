"""Who comes to the simulated shop, and when: sessions, the steps within them, and what a shopper is known by."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from feature_repo.schema import DAY, HOUR, MINUTE, SECOND, USER_SCHEMA, Event, User

STEPS_PER_SESSION: Final = 5.0
"""Mean number of choices in a session."""
MOST_STEPS: Final = 40
MEDIAN_STEP: Final = 40 * SECOND
STEP_SPREAD: Final = 0.8
"""Standard deviation of the logarithm of a step's length."""
SHORTEST_STEP: Final = 5 * SECOND
LONGEST_STEP: Final = 15 * MINUTE
SESSION_GAP: Final = 30 * MINUTE
"""A pause so long starts a new session, here as in the session window."""
MOST_SESSIONS_PER_DAY: Final = 1.5

ACTIVITY_SPREAD: Final = 1.1
EARLY_SHARE: Final = 0.55
"""Share of the shoppers that knew the shop before the log starts; the others arrive while it runs."""
ANONYMOUS_SHARE: Final = 0.3
LATE_LOGIN_SHARE: Final = 0.3
APP_SHARE: Final = 0.2
"""Share of the shoppers that are always logged in and have no visitor id."""

# Share of a day's visits per hour, and of a week's per weekday from Monday, relative to each other.
_HOURS: Final = (2, 1, 1, 1, 1, 2, 4, 6, 7, 8, 9, 9, 10, 9, 8, 8, 9, 10, 12, 14, 15, 13, 9, 5)
_WEEKDAYS: Final = (0.95, 0.9, 0.9, 0.95, 1.0, 1.2, 1.3)


@dataclass(frozen=True)
class Visits:
    """Steps of all sessions, by shopper and then by time; shoppers with more steps have lower numbers.

    A step is one choice. It owns the time from ``time`` to ``time + length``, in microseconds; all that
    happens in the step happens there, so the events of a shopper never overlap.
    """

    shopper: NDArray[np.int32]  # [steps]
    session: NDArray[np.int32]  # [steps], numbered over the whole log
    first: NDArray[np.bool_]  # [steps], whether the step opens its session
    time: NDArray[np.int64]  # [steps]
    length: NDArray[np.int64]  # [steps]
    shoppers: int  # U

    def __len__(self) -> int:
        return len(self.time)

    @property
    def steps_per_shopper(self) -> NDArray[np.int64]:
        """Number of steps of each shopper, [U], falling."""
        return np.bincount(self.shopper, minlength=self.shoppers)

    @property
    def first_steps(self) -> NDArray[np.int64]:
        """Where the steps of each shopper begin, [U]."""
        return np.cumsum(self.steps_per_shopper) - self.steps_per_shopper


@dataclass(frozen=True)
class Identities:
    """What each of U shoppers is known by: a user id from ``login_step`` on, a visitor id if they have one."""

    has_user: NDArray[np.bool_]  # [U]
    has_visitor: NDArray[np.bool_]  # [U]
    login_step: NDArray[np.int64]  # [U], the shopper's own count of steps before they log in


def make_visits(shoppers: int, steps: float, start: int, days: int, rng: np.random.Generator) -> Visits:
    """Draw about ``steps`` steps of ``shoppers`` in the ``days`` from ``start`` (microseconds since 1970)."""
    end = start + days * DAY
    sessions = steps / STEPS_PER_SESSION
    arrival = np.where(rng.random(shoppers) < EARLY_SHARE, start, rng.integers(start, end, shoppers))
    activity = np.exp(rng.normal(0, ACTIVITY_SPREAD, shoppers)) * (end - arrival)
    once = min(1.0, sessions / (2 * shoppers))
    expected = (sessions - once * shoppers) * activity / activity.sum()
    count = (rng.random(shoppers) < once) + rng.poisson(np.minimum(expected, MOST_SESSIONS_PER_DAY * days))

    shopper = np.repeat(np.arange(shoppers), count)
    session_start = _session_starts(arrival[shopper], start, days, rng)
    order = np.lexsort((session_start, shopper))
    shopper, session_start = shopper[order], session_start[order]

    size = np.minimum(rng.geometric(1 / STEPS_PER_SESSION, len(shopper)), MOST_STEPS)
    session = np.repeat(np.arange(len(shopper)), size)
    first = np.concatenate([[True], np.diff(session) > 0])
    pause = rng.lognormal(np.log(MEDIAN_STEP), STEP_SPREAD, len(session))
    length = np.clip(pause, SHORTEST_STEP, LONGEST_STEP).astype(np.int64)
    before = np.cumsum(length) - length
    time = session_start[session] + before - before[first][session]

    # A visit that starts before the pause after an earlier one is over did not happen.
    last = np.append(first[1:], True)
    # One running maximum serves all shoppers, as each has a span of seconds of their own.
    span = shopper * ((days + 2) * DAY // SECOND)
    session_end = (time[last] + length[last] + SESSION_GAP - start) // SECOND + 1
    latest_end = start + (np.maximum.accumulate(session_end + span) - span) * SECOND
    overlaps = np.append(False, (shopper[1:] == shopper[:-1]) & (session_start[1:] < latest_end[:-1]))
    kept = ~overlaps[session] & (time + length < end)
    everything = Visits(
        shopper[session].astype(np.int32), session.astype(np.int32), first, time, length, shoppers
    )
    return _busiest_first(everything, kept)


def make_identities(visits: Visits, rng: np.random.Generator) -> Identities:
    """Draw who never logs in, who logs in somewhere between the first step and the last, and who always is."""
    steps = visits.steps_per_shopper
    kind = rng.random(len(steps))
    late = (kind >= ANONYMOUS_SHARE) & (kind < ANONYMOUS_SHARE + LATE_LOGIN_SHARE)
    return Identities(
        has_user=kind >= ANONYMOUS_SHARE,
        has_visitor=kind < 1 - APP_SHARE,
        login_step=np.where(late, (rng.random(len(steps)) * steps).astype(np.int64) + 1, 0),
    )


def user_table(
    identities: Identities, price_level: NDArray[np.float32], rng: np.random.Generator
) -> pa.Table:
    """Rows of USER_SCHEMA for the shoppers with an account; their budgets follow their price levels."""
    users = np.flatnonzero(identities.has_user)
    budget = np.array(["low", "middle", "high"])[
        np.digitize(price_level[users] + rng.normal(0, 0.5, len(users)), [-0.6, 0.6])
    ]
    country = rng.choice(["DE", "FR", "IT", "ES", "NL", "PL"], len(users))
    columns: dict[str, Any] = {
        User.ID: numbered("u", users),
        User.CONSENT: rng.random(len(users)) < 0.93,
        User.PROPERTIES: [
            f'{{"budget":"{level}","country":"{land}"}}' for level, land in zip(budget, country, strict=True)
        ],
    }
    return pa.table([pa.array(columns[f.name], f.type) for f in USER_SCHEMA], schema=USER_SCHEMA)


def numbered(prefix: str, numbers: NDArray[Any], absent: NDArray[np.bool_] | None = None) -> pa.Array:
    """Ids such as ``u0000042``, null where ``absent``."""
    padded = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), width=8, padding="0")
    ids = pc.binary_join_element_wise(prefix, padded, "")
    return ids if absent is None else pc.if_else(pa.array(absent), None, ids)


def known_by(
    identities: Identities, visits: Visits, shopper: NDArray[Any], time: NDArray[np.int64]
) -> dict[str, pa.Array]:
    """User and visitor ids of each event: the user's from their login on."""
    count = visits.steps_per_shopper
    login = np.full(len(count), np.iinfo(np.int64).max)
    comes = identities.has_user & (identities.login_step < count)
    login[comes] = visits.time[(visits.first_steps + identities.login_step)[comes]]
    return {
        Event.USER: numbered("u", shopper, absent=time < login[shopper]),
        Event.VISITOR: numbered("v", shopper, absent=~identities.has_visitor[shopper]),
    }


def _session_starts(
    arrival: NDArray[np.int64], start: int, days: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """One time per arrival, after it, by the rhythm of hours and weekdays; microseconds since 1970."""
    hours = start // HOUR + np.arange(days * 24)
    weekday = (hours // 24 + 3) % 7  # 1970 began on a Thursday
    weight = np.array(_HOURS)[hours % 24] * np.array(_WEEKDAYS)[weekday]
    cumulated = np.concatenate([[0], np.cumsum(weight)])
    edges = (np.arange(days * 24 + 1) * HOUR).astype(np.float64)
    low = np.interp(arrival - start, edges, cumulated)
    drawn = low + rng.random(len(arrival)) * (cumulated[-1] - low)
    return start + np.interp(drawn, cumulated, edges).astype(np.int64)


def _busiest_first(visits: Visits, kept: NDArray[np.bool_]) -> Visits:
    """The kept steps, with the shoppers renumbered by how many of them they make."""
    busiest = np.argsort(-np.bincount(visits.shopper[kept], minlength=visits.shoppers), kind="stable")
    number = np.empty(visits.shoppers, np.int32)
    number[busiest] = np.arange(visits.shoppers)
    rows = np.flatnonzero(kept)
    rows = rows[np.argsort(number[visits.shopper[rows]], kind="stable")]
    return Visits(
        shopper=number[visits.shopper[rows]],
        session=np.unique(visits.session[rows], return_inverse=True)[1].astype(np.int32),
        first=visits.first[rows],
        time=visits.time[rows],
        length=visits.length[rows],
        shoppers=visits.shoppers,
    )
