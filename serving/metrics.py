"""What the server counts and times, for Prometheus. Every app has its own registry."""

import math
import time
from collections import Counter as Tally
from collections.abc import Callable, Sequence
from enum import StrEnum

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from feature_repo.event_log import Verdict
from feature_repo.events import LoggedEvent
from feature_repo.ranking_features import SOURCES
from feature_repo.schema import SECOND
from serving.bundle import Manifest
from serving.query import Slate

_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
STAGES = ("hydrate", "encode", "retrieve", "filter", "features", "rank", "rerank")


class TurnedAway(StrEnum):
    """Why a request is not let in."""

    NO_KEY = "no_key"
    UNKNOWN_KEY = "unknown_key"
    SCOPE = "scope"
    RATE = "rate"
    BUSY = "busy"


class Metrics:
    """The instruments of one app."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.request_seconds = Histogram(
            "freshet_request_seconds",
            "Time to answer a request.",
            ["route", "status"],
            buckets=_BUCKETS,
            registry=registry,
        )
        stage_seconds = Histogram(
            "freshet_stage_seconds",
            "Time that a stage of a recommendation took.",
            ["stage"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._stages = {name: stage_seconds.labels(name) for name in STAGES}
        candidates = Counter(
            "freshet_candidates", "Candidates that each source brought.", ["source"], registry=registry
        )
        self._sources = [candidates.labels(source) for source in SOURCES]
        self._events = Counter(
            "freshet_events", "Events by what became of them.", ["event_type", "verdict"], registry=registry
        )
        self._degraded = Counter(
            "freshet_degraded", "Answers that had to leave something out.", ["what"], registry=registry
        )
        self._ranked_by = Counter(
            "freshet_slates", "Slates by who put them in order.", ["ranked_by"], registry=registry
        )
        self._breakers_open = Gauge(
            "freshet_breakers_open", "Sources that are left alone for a while.", registry=registry
        )
        self._filled = Counter(
            "freshet_fallback_items",
            "Items that came from popularity because candidates ran out.",
            registry=registry,
        )
        self._model = Info("freshet_model", "The live model.", registry=registry)
        self._age = Gauge(
            "freshet_feature_age_seconds",
            "Seconds since a family of features was computed.",
            ["family"],
            registry=registry,
        )
        self._queued = Gauge(
            "freshet_served_log_queue", "Served slates that wait to be written.", registry=registry
        )
        self.served_log_dropped = Counter(
            "freshet_served_log_dropped", "Served slates that were not written.", registry=registry
        )
        self._turned_away = Counter(
            "freshet_turned_away", "Requests that were not let in.", ["why"], registry=registry
        )
        self._in_work = Gauge(
            "freshet_requests_in_work", "Requests that are being worked on.", registry=registry
        )
        self.bundle_failures = Counter(
            "freshet_bundle_load_failures", "Model bundles that were refused.", registry=registry
        )

    def stage_took(self, name: str, seconds: float) -> None:
        """Note how long the stage of this name took, one of STAGES."""
        self._stages[name].observe(seconds)

    def count_events(self, events: Sequence[LoggedEvent], verdicts: Sequence[Verdict]) -> None:
        """Count appended events by type and verdict."""
        pairs = Tally(
            (event.event_type, verdict.value) for event, verdict in zip(events, verdicts, strict=True)
        )
        for labels, number in pairs.items():
            self._events.labels(*labels).inc(number)

    def count_slate(self, slate: Slate, degraded: Sequence[str], session_age: float) -> None:
        """Count what a slate was made of; ``session_age`` is that of the session features, in seconds."""
        found = (slate.candidates.ranks >= 0).sum(axis=0).tolist()  # NaN, not brought, is not
        for source, number in zip(self._sources, found, strict=True):
            source.inc(number)
        self._ranked_by.labels(slate.ranked_by.value).inc()
        self._filled.inc(slate.filled)
        for what in degraded:
            self._degraded.labels(what).inc()
        self._age.labels("session").set(session_age)

    def show_model(self, manifest: Manifest) -> None:
        """Name the live model."""
        self._model.info({"version": manifest.version, "git_revision": manifest.git_revision})
        for family in ("user", "item"):  # grows also while nobody asks
            self._age.labels(family).set_function(lambda: time.time() - manifest.training_end / SECOND)

    def watch_activity(self, age: Callable[[], float | None]) -> None:
        """Ask ``age`` at every scrape how old the counts of the items' activity are; None shows as NaN."""
        self._age.labels("activity").set_function(lambda: math.nan if (known := age()) is None else known)

    def watch_breakers(self, names: Callable[[], Sequence[str]]) -> None:
        """Ask ``names`` at every scrape which breakers are open."""
        self._breakers_open.set_function(lambda: len(names()))

    def count_turned_away(self, why: TurnedAway) -> None:
        """Count a request that was not let in."""
        self._turned_away.labels(why).inc()

    def watch_work(self, number: Callable[[], float]) -> None:
        """Ask ``number`` for the requests that are being worked on at every scrape."""
        self._in_work.set_function(number)

    def watch_queue(self, length: Callable[[], float]) -> None:
        """Ask ``length`` for the number of waiting served slates at every scrape."""
        self._queued.set_function(length)

    def render(self) -> bytes:
        """All instruments in Prometheus' text format."""
        return generate_latest(self.registry)


class TimedRequests:
    """ASGI middleware: times every request by its route and status."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._seconds = metrics.request_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and observe how it ends."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, observed)
        finally:
            route = getattr(scope.get("route"), "path_format", "unmatched")
            self._seconds.labels(route, status).observe(time.perf_counter() - started)
