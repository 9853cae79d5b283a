"""What ``make bench`` claims, it would notice if it were not so."""

import os
import sys

import pytest

from tests.bench_click import failures_of
from tests.bench_load import Load, at_rate
from tests.bench_server import running


@pytest.mark.integration
def test_an_error_of_a_client_is_an_error_of_the_benchmark() -> None:
    with running([sys.executable, "-m", "tests.bench_floor"], {**os.environ}) as server:
        found = at_rate(server.port, Load("/v1/events", _no_events), rate=200, seconds=0.5)
        assert found.latencies.size == 100
        with pytest.raises(RuntimeError, match="404 Not Found"):
            at_rate(server.port, Load("/nowhere", _no_events), rate=200, seconds=0.5)


@pytest.mark.parametrize(
    ("items", "age", "failures"),
    [
        ("ba", 0.015, []),
        ("ab", 0.015, ["same items in the same order"]),
        ("ba", 3600.015, ["3600.015 s old"]),  # it knows only what was before
        ("ba", 0, ["0 s old"]),  # it knows none
    ],
)
def test_a_slate_that_does_not_know_its_click_is_a_failure(
    items: str, age: float, failures: list[str]
) -> None:
    found = list(failures_of(_slate("ab", 0.5), _slate(items, age), 0.02, "vera clicked on a"))
    assert [part in failure for part, failure in zip(failures, found, strict=True)] == [True] * len(failures)


def _no_events(_: int) -> bytes:
    return b'{"events": []}'


def _slate(items: str, age: float) -> dict[str, object]:
    return {"items": [{"item_id": item} for item in items], "feature_age": {"session": age}}
