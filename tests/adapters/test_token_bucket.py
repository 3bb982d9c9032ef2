"""Token bucket on a clock that the tests move."""

from billing.adapters.token_bucket import TokenBucket


class Clock:
    """Clock that advances only while something sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        """Advance the clock."""
        self.slept.append(seconds)
        self.now += seconds


def test_bucket_limits_the_rate_after_a_burst_of_one_second() -> None:
    """Ten tokens at once, then one each tenth of a second."""
    clock = Clock()
    bucket = TokenBucket(10, lambda: clock.now, clock.sleep)
    acquired: list[float] = []
    for _ in range(100):
        bucket.acquire()
        acquired.append(clock.now)
    assert acquired[9] == 100.0
    assert abs(acquired[-1] - 109.0) < 1e-6
    busiest = max(sum(start <= each < start + 1 for each in acquired) for start in acquired)
    assert busiest <= 20


def test_idle_time_does_not_add_more_than_one_second_of_tokens() -> None:
    clock = Clock()
    bucket = TokenBucket(10, lambda: clock.now, clock.sleep)
    clock.now += 3600
    for _ in range(11):
        bucket.acquire()
    assert len(clock.slept) == 1
