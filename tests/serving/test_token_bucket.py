"""The token bucket, by a clock that only the test moves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.access.token_bucket import TokenBucket


class Clock:
    """Seconds, as the test sets them."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_of_a_seconds_worth_passes_and_then_one_per_token() -> None:
    clock = Clock()
    bucket = TokenBucket(4, clock)
    assert [bucket.take() for _ in range(6)] == [0, 0, 0, 0, 0.25, 0.25]
    clock.now += 0.125
    assert bucket.take() == 0.125
    clock.now += 0.125
    assert [bucket.take(), bucket.take()] == [0, 0.25]


def test_a_long_pause_saves_no_more_than_a_second() -> None:
    clock = Clock()
    bucket = TokenBucket(2, clock)
    clock.now += 1000
    assert [bucket.take() for _ in range(3)] == [0, 0, 0.5]


def test_less_than_one_a_second_lets_the_first_pass() -> None:
    clock = Clock()
    bucket = TokenBucket(0.25, clock)
    assert [bucket.take(), bucket.take()] == [0, 4]
    clock.now += 3
    assert bucket.take() == 1
    clock.now += 1
    assert bucket.take() == 0


@given(
    st.floats(0.1, 100),
    st.lists(st.floats(0, 3), max_size=200),
)
def test_in_any_time_no_more_pass_than_a_burst_and_the_rate(per_second: float, pauses: list[float]) -> None:
    clock = Clock()
    bucket = TokenBucket(per_second, clock)
    passed = 0
    for pause in pauses:
        clock.now += pause
        passed += bucket.take() == 0
    assert passed <= max(per_second, 1) + per_second * sum(pauses) + 1e-6


@given(st.floats(0.1, 100))
def test_who_waits_as_long_as_told_is_let_in(per_second: float) -> None:
    clock = Clock()
    bucket = TokenBucket(per_second, clock)
    while not (wait := bucket.take()):
        pass
    clock.now += wait + 1e-9
    assert bucket.take() == pytest.approx(0)
