"""Redis is a convenience: refused or never answered, the site and its API go on without a cache."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client

from annotate import caching, rendering
from annotate.models import Project, User
from tests.conftest import PASSWORD, signed_in
from tests.faults.servers import redis
from tests.programs import Program


class Silent:
    """A server that takes every connection and never says a word."""

    def __init__(self, port: socket.socket) -> None:
        self.port, self.taken = port, dict[Any, socket.socket]()
        self.news = threading.Condition()
        self.url = f"redis://127.0.0.1:{port.getsockname()[1]}/0"

    def take(self) -> None:
        with suppress(OSError):
            while True:
                caller, address = self.port.accept()
                with self.news:
                    self.taken[address] = caller
                    self.news.notify_all()

    def tried(self) -> int:
        """How many connections came: all that came before one of our own, which is not counted."""
        with socket.create_connection(self.port.getsockname()) as ours, self.news:
            assert self.news.wait_for(lambda: ours.getsockname() in self.taken, 60)
            self.taken.pop(ours.getsockname()).close()
            return len(self.taken)


@contextmanager
def silent() -> Iterator[Silent]:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as port:
        server = Silent(port)
        taking = threading.Thread(target=server.take)
        taking.start()
        try:
            yield server
        finally:
            port.shutdown(socket.SHUT_RDWR)
            taking.join()
            for one in server.taken.values():
                one.close()


@contextmanager
def refusing() -> Iterator[str]:
    """The address of a port that is taken by somebody who does not listen."""
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        yield f"redis://127.0.0.1:{port.getsockname()[1]}/0"


def use(settings: Any, address: str) -> None:
    settings.CACHES = {"default": {"BACKEND": "annotate.caching.ForgivingRedisCache", "LOCATION": address}}


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Time stands still unless a test moves it, so a pause is over when the test says so."""
    clock = SimpleNamespace(now=1_000.0)
    monkeypatch.setattr(caching, "time", SimpleNamespace(monotonic=lambda: clock.now, time=lambda: clock.now))
    monkeypatch.setattr(caching, "_again", {})
    return clock


@pytest.fixture(params=["refuses", "never answers"])
def away(request: pytest.FixtureRequest, settings: Any) -> Iterator[None]:
    if request.param == "refuses":
        with refusing() as address:
            use(settings, address)
            yield
    else:
        with silent() as server:
            use(settings, server.url)
            yield


@pytest.mark.django_db
def test_pages_open_and_people_sign_in(away: None, project: Project, ben: User) -> None:
    assert signed_in(ben).get("/projects/tides/compare/").status_code == 200
    browser = Client()
    answer = browser.post("/accounts/login/", {"login": "ben", "password": PASSWORD})
    assert (answer.status_code, answer.headers["Location"]) == (302, "/")
    assert browser.get("/projects/tides/compare/").status_code == 200


@pytest.mark.django_db
def test_programs_are_answered_and_not_limited(
    away: None, project: Project, ada: User, settings: Any
) -> None:
    settings.API_REQUESTS_A_MINUTE = settings.API_FAILURES_A_MINUTE = 1
    program = Program(ada)
    assert [program.get("/projects/tides").status_code for _ in range(3)] == [200] * 3
    stranger = Client(headers={"Authorization": "Bearer tst_none"})
    assert [stranger.get("/api/v1/projects").status_code for _ in range(3)] == [401] * 3


def test_texts_are_rendered(away: None) -> None:
    assert "<em>tide</em>" in rendering.markdown("The *tide* turns.")


def test_every_operation_is_that_of_a_cache_that_keeps_nothing(away: None) -> None:
    assert cache.add("a", 1) is True  # who waits for a lock in the cache goes on
    cache.set("a", 1)
    cache.set_many({"a": 1})
    cache.delete_many(["a"])
    cache.clear()
    assert (cache.get("a"), cache.get("a", 7), cache.get_many(["a"])) == (None, 7, {})
    assert ("a" in cache, cache.touch("a"), cache.delete("a")) == (False, False, False)
    assert (cache.get_or_set("a", 3), caching.counted("a")) == (3, 0)
    with pytest.raises(ValueError, match="not found"):
        cache.incr("a")


def read_beside() -> Any:
    """In a thread, which has a cache object and connections of its own."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(cache.get, "a").result()


@pytest.mark.django_db
def test_a_server_that_hangs_is_waited_for_once_and_then_left_alone(
    project: Project, ben: User, settings: Any, clock: SimpleNamespace
) -> None:
    with silent() as server:
        use(settings, server.url)
        browser = signed_in(ben)
        for _ in range(5):
            assert browser.get("/projects/tides/compare/").status_code == 200
            assert read_beside() is None
        assert server.tried() == 1
        clock.now += caching.PAUSE
        for _ in range(3):
            assert cache.get("a") is None
            assert read_beside() is None
        assert server.tried() == 2


def test_while_one_looks_again_the_others_go_on_without(
    settings: Any, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with silent() as server:
        use(settings, server.url)
        assert cache.get("a") is None
        clock.now += caching.PAUSE
        asked = caching.ForgivingRedisCache.may_be_asked
        answers = [asked(caching.ForgivingRedisCache(server.url, {})) for _ in range(3)]
        assert answers == [True, False, False]


@pytest.mark.skipif(not shutil.which("redis-server"), reason="redis-server is not installed")
def test_it_is_used_again_when_it_is_back(settings: Any, clock: SimpleNamespace) -> None:
    with redis() as server:
        use(settings, server.url)
        cache.set("a", 1)
        assert (cache.get("a"), caching.counted("n"), caching.counted("n")) == (1, 1, 2)
        server.kill()
        assert cache.get("a") is None
        server.start()
        assert cache.get("a") is None, "it is left alone for a while"
        clock.now += caching.PAUSE
        cache.set("a", 2)
        assert (cache.get("a"), read_beside()) == (2, 2)
        cache.clear()
        assert cache.get("a") is None


def test_an_address_names_another_patience(settings: Any) -> None:
    use(settings, "redis://127.0.0.1:1/0?socket_timeout=3")
    patience = cache._cache.get_client().connection_pool.connection_kwargs
    assert (patience["socket_timeout"], patience["socket_connect_timeout"]) == (3.0, caching.SECONDS)
