"""Replays: a logged request, answered again from what it was answered from."""

import asyncio
import time
from collections import OrderedDict
from datetime import timedelta
from typing import Final, NamedTuple

from feature_repo.errors import BundleError, GoneError, NotLoggedError
from feature_repo.item_activity import UNKNOWN_ACTIVITY, Activity
from feature_repo.schema import SECOND, shopper_key
from feature_repo.settings import Settings
from feature_repo.tombstones import Tombstones
from serving.bundle import Bundle
from serving.bundle_files import MANIFEST, read_bundle
from serving.in_time.attempt import Again
from serving.recommender import Recommender
from serving.replays.absence import Answer
from serving.replays.logged_request import LoggedRequest, find_request
from serving.served.activity_state import table_of_rows
from serving.served.catalog_state import with_state
from serving.served.date_folder import day_of
from serving.served.request_id import moment_of
from serving.served.state_journal import ACTIVITY, CATALOG, read_state

BUNDLES: Final = 2
"""Newest bundles that stay mapped: to check one takes longer than to replay."""
SETTLING_SECONDS: Final = 1.0
"""What a slate may take, beside the time that it waits, to be written."""


class Replay(NamedTuple):
    """A request as it was logged, and what it is answered now."""

    logged: LoggedRequest
    answer: Answer


class Replays:
    """Replays the requests of a home, one at a time, whichever server answered them."""

    def __init__(self, settings: Settings, tombstones: Tombstones) -> None:
        self._settings = settings
        self._tombstones = tombstones
        self._bundles: OrderedDict[tuple[str, int], Bundle] = OrderedDict()
        self._one_at_a_time = asyncio.Lock()

    async def replay(self, request_id: str) -> Replay:
        """The request, answered again. Raises NotLoggedError, or GoneError that says what is gone."""
        async with self._one_at_a_time:
            return await asyncio.to_thread(self._replay, request_id)

    def _replay(self, request_id: str) -> Replay:
        logged = self._logged(request_id)
        bundle = self._bundle(logged)
        recommender = Recommender(self._with_catalog(bundle, logged), logged.candidates)
        return Replay(
            logged,
            Answer.of(
                recommender,
                logged.question,
                self._activity(bundle, logged),
                Again(logged.degraded, logged.ranked_by),
            ),
        )

    def _logged(self, request_id: str) -> LoggedRequest:
        as_of, now = moment_of(request_id), time.time_ns() // 1000
        unknown = NotLoggedError("no request of this id was logged, or its shopper was erased")
        if as_of is None or as_of > now:
            raise unknown
        kept = min(self._settings.replay_days, self._settings.served_log_days)
        if day_of(as_of) < day_of(now) - timedelta(days=kept):
            keep = f"FRESHET_REPLAY_DAYS and FRESHET_SERVED_LOG_DAYS keep {kept} days"
            raise GoneError(f"the request is of {day_of(as_of)}: {keep}")
        logged = find_request(self._settings.served_dir, request_id, as_of)
        if logged is None:
            written = as_of / SECOND + self._settings.served_log_flush_seconds + SETTLING_SECONDS
            left = written - now / SECOND
            raise unknown if left < 0 else NotLoggedError(f"it is not written yet: ask again in {left:.0f} s")
        if self._is_erased(logged):
            raise unknown
        return logged

    def _is_erased(self, logged: LoggedRequest) -> bool:
        """Whether the shopper is erased, though the log still has the request."""
        ids = ((logged.user_id, None), (None, logged.visitor_id))
        erased = (self._tombstones.erased_at(shopper_key(*one)) for one in ids if any(one))
        return any(moment is not None and moment >= logged.question.as_of for moment in erased)

    def _bundle(self, logged: LoggedRequest) -> Bundle:
        directory = self._settings.models_dir / logged.bundle
        try:
            key = logged.bundle, (directory / MANIFEST).stat().st_mtime_ns  # an erasure writes it anew
            if key not in self._bundles:
                self._bundles[key] = read_bundle(directory)
        except (OSError, BundleError) as error:
            raise GoneError(f"the model that answered, {logged.bundle}, is gone: {_kept(logged)}") from error
        self._bundles.move_to_end(key)
        while len(self._bundles) > BUNDLES:
            self._bundles.popitem(last=False)
        return self._bundles[key]

    def _with_catalog(self, bundle: Bundle, logged: LoggedRequest) -> Bundle:
        if logged.catalog_state is None:
            raise GoneError("the catalog changed just while the request was answered")
        rows = read_state(self._settings.replay_dir / CATALOG, logged.catalog_state)
        return with_state(bundle, rows)

    def _activity(self, bundle: Bundle, logged: LoggedRequest) -> Activity:
        if logged.activity_state is None:
            return UNKNOWN_ACTIVITY
        rows = read_state(self._settings.replay_dir / ACTIVITY, logged.activity_state)
        return table_of_rows(rows, len(bundle.item_ids))


def _kept(logged: LoggedRequest) -> str:
    if logged.bundle == logged.model_version:
        return "FRESHET_BUNDLES_KEPT says how many trained ones stay"
    return "FRESHET_REFRESHED_KEPT says how many of those stay that were assembled between trainings"
