"""Breakers: what they let through, and when."""

from serving.in_time.breakers import MOST_MISSES, OPEN_SECONDS, Breakers


class Clock:
    """A clock that stands still unless it is moved."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock) -> Breakers:
    """Breakers of which that of ``slow`` has just opened."""
    breakers = Breakers(clock)
    for _ in range(MOST_MISSES):
        assert breakers.lets_through("slow")
        breakers.missed("slow")
    return breakers


def test_a_breaker_opens_after_misses_in_a_row_and_leaves_the_others_alone() -> None:
    breakers = opened(Clock())
    assert not breakers.lets_through("slow")
    assert breakers.lets_through("other")
    assert breakers.open() == ["slow"]


def test_an_answer_between_two_misses_keeps_it_closed() -> None:
    breakers = Breakers(Clock())
    for _ in range(MOST_MISSES - 1):
        breakers.missed("slow")
    assert not breakers.is_sound("slow")
    breakers.answered("slow")
    assert breakers.is_sound("slow")
    breakers.missed("slow")
    assert breakers.lets_through("slow")


def test_after_its_time_one_caller_tries_and_an_answer_closes_it() -> None:
    clock = Clock()
    breakers = opened(clock)
    clock.now += OPEN_SECONDS
    assert breakers.lets_through("slow")
    assert not breakers.lets_through("slow")
    breakers.answered("slow")
    assert breakers.lets_through("slow")
    assert breakers.open() == []


def test_a_try_that_misses_keeps_it_open_for_as_long_again() -> None:
    clock = Clock()
    breakers = opened(clock)
    clock.now += OPEN_SECONDS
    assert breakers.lets_through("slow")
    breakers.missed("slow")
    clock.now += 0.9 * OPEN_SECONDS
    assert not breakers.lets_through("slow")
