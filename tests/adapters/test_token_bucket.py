"""The limit on requests a second, on a clock of the test's own."""

from billing.adapters.token_bucket import TokenBucket


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.slept.append(seconds)
        self.now += seconds


def test_no_more_a_second_than_that() -> None:
    """A second's worth at once, then one each tenth of a second: in ten seconds at most a second's worth too many."""
    clock = Clock()
    bucket = TokenBucket(10, lambda: clock.now, clock.sleep)
    taken: list[float] = []
    for _ in range(100):
        bucket.acquire()
        taken.append(clock.now)
    assert taken[9] == 100.0
    assert abs(taken[-1] - 109.0) < 1e-6
    busiest = max(sum(start <= each < start + 1 for each in taken) for start in taken)
    assert busiest <= 20


def test_idle_time_is_not_saved_up() -> None:
    """However long nothing was asked, not more than a second's worth comes at once."""
    clock = Clock()
    bucket = TokenBucket(10, lambda: clock.now, clock.sleep)
    clock.now += 3600
    for _ in range(11):
        bucket.acquire()
    assert len(clock.slept) == 1
