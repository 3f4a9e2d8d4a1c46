"""The cache on Redis, which may be away: then nothing is found in it and nothing kept, and pages are made without.

A server that does not answer is left alone for a while, so that it costs one wait now and then, not each request.
"""

from __future__ import annotations

import logging
import threading
import time
from functools import wraps
from typing import Any

from django.core.cache import cache
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.redis import RedisCache
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

SECONDS = 0.5  # that a server may take to answer; its address can say other socket_timeout=
PAUSE = 5.0
WINDOW = 60  # seconds over which requests are counted
_again: dict[
    str, float
] = {}  # when to ask servers again that failed: of the process, as caches are of threads
_turn = threading.Lock()


def in_window(name: str, back: int = 0) -> str:
    """The key under which this is counted now, or so many minutes ago."""
    return f"{name}:{int(time.time() // WINDOW) - back}"


def counted(name: str) -> int:
    """One more of these in this minute; how many there were. What cannot be counted is not limited."""
    key = in_window(name)
    cache.add(key, 0, 2 * WINDOW)
    try:
        return int(cache.incr(key))
    except ValueError:  # Django's word for a key that is not there: dropped meanwhile, or the cache is away
        return 0


def forgiving(name: str) -> Any:
    """The operation of that name; where the server fails, what it is on a cache that keeps nothing."""
    on_redis = getattr(RedisCache, name)

    @wraps(on_redis)
    def operation(self: ForgivingRedisCache, *args: Any, **kwargs: Any) -> Any:
        if self.may_be_asked():
            try:
                answer = on_redis(self, *args, **kwargs)
            except RedisError as error:
                self.leave_alone(error)
            else:
                _again.pop(self.address, None)
                return answer
        return getattr(self.empty, name)(*args, **kwargs)

    return operation


class ForgivingRedisCache(RedisCache):
    """Django's, which never raises because of the server."""

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        patience = {"socket_timeout": SECONDS, "socket_connect_timeout": SECONDS}
        super().__init__(server, {**params, "OPTIONS": {**patience, **params.get("OPTIONS", {})}})
        self.address, self.empty = server, DummyCache(server, params)

    def may_be_asked(self) -> bool:
        """After a pause one thread looks whether the server is back; the others go on without it meanwhile."""
        with _turn:
            now = time.monotonic()
            due = _again.get(self.address)
            if due is not None and now >= due:
                _again[self.address] = now + PAUSE
        return due is None or now >= due

    def leave_alone(self, error: RedisError) -> None:
        logger.warning("the cache is left alone for %.0f s: %s", PAUSE, error)
        with _turn:
            _again[self.address] = time.monotonic() + PAUSE

    add, get, set = forgiving("add"), forgiving("get"), forgiving("set")
    touch, delete, has_key = forgiving("touch"), forgiving("delete"), forgiving("has_key")
    get_many, set_many, delete_many = forgiving("get_many"), forgiving("set_many"), forgiving("delete_many")
    incr, clear = forgiving("incr"), forgiving("clear")
