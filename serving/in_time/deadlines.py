"""Deadlines: a slate in time, as good as the time allows."""

import logging
from functools import partial

from serving.in_time.attempt import Hurried, Pace
from serving.in_time.breakers import Breakers
from serving.in_time.workers import Workers
from serving.metrics import Metrics
from serving.query import Query, Slate
from serving.recommender import Recommender

logger = logging.getLogger(__name__)


class Deadlines:
    """Makes the slates of one server process.

    A slate climbs down as far as it must: all sources and the rankers; without the sources that are slow; by the
    rankers' first trees; by the order of the sources; by lists that stand ready, in the event loop, when the thread
    did not come back.
    """

    def __init__(self, breakers: Breakers, metrics: Metrics) -> None:
        self._workers = Workers()
        self._breakers = breakers
        self._pace = Pace()
        self._metrics = metrics

    async def recommend(
        self, recommender: Recommender, query: Query, until: float
    ) -> tuple[Slate, list[str]]:
        """The slate, and the sources that were left out; ``until`` is in seconds of time.monotonic."""
        attempt = Hurried(until, self._breakers, self._pace, self._metrics.stage_took)
        try:
            [slate] = await self._workers.run(partial(recommender.recommend, [query], attempt), until)
        except TimeoutError:
            attempt.give_up()
        except Exception:
            logger.exception("the recommender failed")
        else:
            return slate, attempt.left_out
        return recommender.stopgap(query, self._breakers.is_sound)

    def close(self) -> None:
        """Have the threads end."""
        self._workers.close()
