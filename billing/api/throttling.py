"""Limits per caller and kind of request, counted in windows; when the counter is out of reach, requests go on."""

import logging
from typing import Any

from django.core.cache import cache
from rest_framework.permissions import SAFE_METHODS
from rest_framework.throttling import ScopedRateThrottle

from billing.clock import wall_now

logger = logging.getLogger(__name__)
GRACE = 5
"""Seconds that a counter outlives its window."""


class WindowThrottle(ScopedRateThrottle):
    """Like DRF's scoped throttle, with one counter per window instead of a list of times per caller."""

    def allow_request(self, request: Any, view: Any) -> bool:
        self.scope = getattr(view, self.scope_attr, None)
        if self.scope is None:
            return True
        self.scope = self.scope or ("read" if request.method in SAFE_METHODS else "write")
        self.rate = self.get_rate()
        self.num_requests, self.duration = self.parse_rate(self.rate)
        if self.num_requests is None or self.duration is None:
            return True
        self.seconds = self.duration
        window, self.passed = divmod(int(wall_now().timestamp()), self.seconds)
        return self._count(f"{self.get_cache_key(request, view)}:{window}") <= self.num_requests

    def wait(self) -> float | None:
        """Seconds until the next window."""
        return float(self.seconds - self.passed)

    def _count(self, key: str) -> int:
        try:
            return int(cache.count_up(key, seconds=self.seconds + GRACE))  # type: ignore[attr-defined]  # billing.counters
        except Exception:
            logger.warning("The throttle's counter cannot be reached.", exc_info=True)
            return 0
