"""Token bucket: rate limit within one process."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class TokenBucket:
    """Token bucket for one thread. It gains `per_second` tokens a second and holds at most that number.

    Attributes:
        clock: Returns monotonic time in seconds.
    """

    per_second: float
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _tokens: float = field(init=False)
    _filled_at: float = field(init=False)

    def __post_init__(self) -> None:
        self._tokens, self._filled_at = self.per_second, self.clock()

    def acquire(self) -> None:
        """Take one token; wait until there is one."""
        now = self.clock()
        self._tokens = min(self.per_second, self._tokens + (now - self._filled_at) * self.per_second)
        self._filled_at = now
        self._tokens -= 1
        if self._tokens < 0:
            self.sleep(-self._tokens / self.per_second)
