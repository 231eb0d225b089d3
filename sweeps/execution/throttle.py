"""At most once in so many seconds."""

from __future__ import annotations

import time


class Throttle:
    """True at most once in ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.last = seconds, 0.0

    def __call__(self) -> bool:
        now = time.monotonic()
        if now - self.last < self.seconds:
            return False
        self.last = now
        return True
