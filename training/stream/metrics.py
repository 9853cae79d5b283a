"""What the consumers count, for Prometheus."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, start_http_server

from feature_repo.errors import cannot_listen
from feature_repo.log_reader import LogReader
from feature_repo.schema import SECOND
from feature_repo.settings import Settings


class StreamMetrics:
    """The instruments of one process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        labels = ["group"]
        self._done = Counter("freshet_stream_done", "Entries processed.", labels, registry=registry)
        self._taken_over = Counter(
            "freshet_stream_taken_over", "Entries taken over from dead consumers.", labels, registry=registry
        )
        self._lag = Gauge("freshet_stream_lag", "Entries not processed yet.", labels, registry=registry)
        self._lag_seconds = Gauge(
            "freshet_stream_lag_seconds",
            "Age of the oldest entry not processed yet.",
            labels,
            registry=registry,
        )
        self._dead = Gauge("freshet_dead_letters", "Entries that could not be processed.", registry=registry)

    def count_done(self, group: str, entries: int) -> None:
        """Count processed entries."""
        self._done.labels(group).inc(entries)

    def count_taken_over(self, group: str, entries: int) -> None:
        """Count entries of dead consumers."""
        self._taken_over.labels(group).inc(entries)

    async def observe(self, reader: LogReader) -> None:
        """How far the reader's group is behind, and what could not be processed."""
        lags = [await reader.lag(partition) for partition in range(reader.partitions)]
        oldest = min((lag.since for lag in lags if lag.since is not None), default=None)
        self._lag.labels(reader.group).set(sum(lag.entries for lag in lags))
        self._lag_seconds.labels(reader.group).set(
            0 if oldest is None else max(0, time.time() - oldest / SECOND)
        )
        self._dead.set(sum([await reader.dead_letter_count(n) for n in range(reader.partitions)]))


@contextmanager
def serving_metrics(metrics: StreamMetrics, settings: Settings) -> Iterator[None]:
    """Answer Prometheus at ``settings.host`` and ``settings.stream_metrics_port`` meanwhile.

    Raises InputError when that cannot be had.
    """
    host, port = settings.host, settings.stream_metrics_port
    try:
        server, thread = start_http_server(port, host, metrics.registry)
    except OSError as error:
        raise cannot_listen(error, host, port, "FRESHET_STREAM_METRICS_PORT") from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
