"""The shared cache, with counters: each counted in one trip, whoever comes first."""

from typing import Any

from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.redis import RedisCache, RedisCacheClient


class KeptClient(RedisCacheClient):
    """Django's client, which makes a Redis object for every call, with one that is kept."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._kept: dict[bool, Any] = {}

    def get_client(self, key: Any = None, *, write: bool = False) -> Any:
        if len(self._servers) > 1:  # type: ignore[attr-defined]  # Django's
            return super().get_client(key, write=write)
        found = self._kept.get(write)
        if found is None:
            found = self._kept[write] = super().get_client(key, write=write)
        return found

    def count_up(self, key: str, seconds: int) -> int:
        together = self.get_client(key, write=True).pipeline(transaction=False)
        together.incr(key)
        together.expire(key, seconds)  # in the same trip: a process that dies in between leaves no counter for ever
        return int(together.execute()[0])


class CountingRedisCache(RedisCache):
    """The cache of all processes."""

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        super().__init__(server, params)
        self._class = KeptClient

    def count_up(self, key: str, *, seconds: int) -> int:
        """How often ``key`` was counted, this time included; forgotten ``seconds`` after the last time."""
        client: KeptClient = self._cache  # type: ignore[assignment]
        return client.count_up(self.make_and_validate_key(key), seconds)


class CountingLocalCache(LocMemCache):
    """The same for one process: tests."""

    def count_up(self, key: str, *, seconds: int) -> int:
        """How often ``key`` was counted, this time included."""
        self.add(key, 0, timeout=seconds)
        return int(self.incr(key))
