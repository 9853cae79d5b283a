"""A bound on the requests in work: who comes above it is told at once to come back, and nobody waits in a queue."""

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.error_replies import RETRY_SECONDS
from serving.metrics import Metrics, TurnedAway
from serving.replies import Failed


class WorkLimit:
    """At most so many requests are worked on at once by one event loop."""

    def __init__(self, most: int, metrics: Metrics) -> None:
        self._most = most
        self._metrics = metrics
        self._in_work = 0
        metrics.watch_work(lambda: self._in_work)
        self._busy = Failed(
            detail=f"the server works on {most} requests, the most at once (FRESHET_MAX_CONCURRENT_REQUESTS): "
            "try again after Retry-After"
        ).model_dump()

    def limited(self, app: ASGIApp) -> ASGIApp:
        """An app that counts as work, and answers 503 in the place of ``app`` while there is too much of it."""

        async def work(scope: Scope, receive: Receive, send: Send) -> None:
            if self._in_work >= self._most:
                self._metrics.count_turned_away(TurnedAway.BUSY)
                refusal = JSONResponse(self._busy, 503, {"Retry-After": str(RETRY_SECONDS)})
                await refusal(scope, receive, send)
                return
            self._in_work += 1
            try:
                await app(scope, receive, send)
            finally:
                self._in_work -= 1

        return work
