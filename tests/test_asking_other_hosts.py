"""Outgoing requests go to public hosts only, however a local one is spelt, and end in time."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import Any

import pytest

from annotate import outbound
from annotate.errors import TouchstoneError
from tests.receiver import receiver

LOCAL = [
    "http://127.0.0.1/", "http://127.1.2.3:8000/", "http://0.0.0.0/", "http://10.0.0.1/", "http://172.16.3.4/",
    "http://192.168.1.1/", "http://169.254.169.254/latest/meta-data/", "http://100.64.0.1/", "http://224.0.0.1/",
    "http://255.255.255.255/", "http://198.18.0.1/", "http://192.0.2.1/", "http://240.0.0.1/",
    "http://[::1]/", "http://[::]/", "http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/", "http://[::127.0.0.1]/",
    "http://[fe80::1]/", "http://[fc00::1]/", "http://[fd00:ec2::254]/", "http://[fec0::1]/", "http://[ff02::1]/",
    "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/", "http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/",
]  # fmt: skip
NO_ADDRESS = [
    "http://2130706433/", "http://0177.0.0.1/", "http://0x7f.0.0.1/", "http://0x7f000001/", "http://127.1/",
    "http://127.0.0.1.1/", "http://134744072/", "http://1.2.3.0x4/", "http:///path", "http://", "http://a b/",
    "http://exa\nmple.org/", "http://user:secret@example.org/", "http://user@example.org/", "http://exämple.org/",
    "http://example.org\\@127.0.0.1/", "http://[::1%25lo]/", "http://[v1.x]/", "http://example.org:0/",
    "http://example.org:99999/", "http://" + "a" * 64 + ".org/", "http://example.org/" + "a" * 3000,
    "file:///etc/passwd", "gopher://example.org/", "ftp://example.org/", "data:text/plain,x", "javascript:alert(1)",
    "//example.org/", "example.org", "", "http://①②⑦.0.0.1/", "dict://127.0.0.1:11211/stat",
]  # fmt: skip


@pytest.mark.parametrize("url", LOCAL + NO_ADDRESS)
def test_what_is_not_a_public_address_is_refused_before_anything_is_resolved(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: pytest.fail("resolved"))
    with pytest.raises(TouchstoneError) as error:
        outbound.request("GET", url)
    assert error.value.code == "refused"


PUBLIC = [
    "https://example.org", "http://example.org:8080/a?b=c", "https://1.1.1.1/", "https://[2606:4700::1111]/x",
    "https://EXAMPLE.org./", "https://xn--exmple-cua.org/",
]  # fmt: skip


@pytest.mark.parametrize("url", PUBLIC)
def test_public_addresses_are_taken(url: str) -> None:
    assert outbound.target(url).scheme in url


def resolve_to(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Make names resolve to one list of addresses after the other; the names that were asked for."""
    asked, left = [], list(answers)

    def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        now = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in now]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


INSIDE = [["127.0.0.1"], ["1.1.1.1", "10.0.0.1"], ["::1"], ["::ffff:10.0.0.1"], ["fe80::1%eth0"]]


@pytest.mark.parametrize("answer", INSIDE)
def test_a_name_that_leads_inside_is_refused_even_if_only_partly(
    answer: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_to(monkeypatch, answer)
    monkeypatch.setattr(socket, "create_connection", lambda *a, **k: pytest.fail("connected"))
    with pytest.raises(TouchstoneError) as error:
        outbound.request("GET", "https://inside.example.org/")
    assert error.value.code == "refused"


def test_a_name_that_changes_its_mind_is_asked_once_and_the_checked_address_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = resolve_to(monkeypatch, ["1.1.1.1"], ["127.0.0.1"])
    connected: list[tuple[str, int]] = []

    def create_connection(address: tuple[str, int], *_: Any) -> Any:
        connected.append(address)
        raise OSError("not today")

    monkeypatch.setattr(socket, "create_connection", create_connection)
    with pytest.raises(TouchstoneError) as error:
        outbound.request("GET", "http://rebind.example.org:81/")
    assert error.value.code == "unanswered"
    assert (asked, connected) == (["rebind.example.org"], [("1.1.1.1", 81)])


def test_the_certificate_must_be_the_hosts(settings: Any) -> None:
    settings.OUTBOUND_NETWORKS = ["127.0.0.0/8"]
    with receiver() as server, pytest.raises(TouchstoneError) as error:
        outbound.request("GET", f"https://127.0.0.1:{server.port}/", seconds=2)
    assert error.value.code == "unanswered"


def test_an_allowed_network_is_asked_and_the_answer_comes_back(settings: Any) -> None:
    settings.OUTBOUND_NETWORKS = ["127.0.0.0/8"]
    with receiver() as server:
        server.status = 201
        answer = outbound.request("POST", server.url + "?a=b", b"{}", {"X-A": "b", "Host": "evil"})
        assert (answer.status, answer.body) == (201, b"thank you")
        got = server.requests[0]
        assert (got.method, got.path, got.body) == ("POST", "/hook?a=b", b"{}")
        assert (got.headers["x-a"], got.headers["host"]) == ("b", f"127.0.0.1:{server.port}")


def test_a_redirect_is_an_answer_and_not_followed(settings: Any) -> None:
    settings.OUTBOUND_NETWORKS = ["127.0.0.0/8"]
    with receiver() as server:
        server.status, server.headers = 302, {"Location": "http://169.254.169.254/"}
        assert outbound.request("GET", server.url).status == 302
        assert len(server.requests) == 1


def test_an_answer_that_is_too_long_or_too_slow_is_cut(settings: Any) -> None:
    settings.OUTBOUND_NETWORKS = ["127.0.0.0/8"]
    with receiver() as server:
        server.answer = b"x" * 100_000
        with pytest.raises(TouchstoneError, match="more than 1,000 bytes"):
            outbound.request("GET", server.url, most=1_000)
        over = threading.Event()
        server.before = lambda: over.wait(20)
        began = time.monotonic()
        with pytest.raises(TouchstoneError, match="too long"):
            outbound.request("GET", server.url, seconds=0.2)
        assert time.monotonic() - began < 10
        over.set()


@pytest.mark.parametrize("beginning", [b"X: ", b"\r\n", b"Content-Length: 9999\r\n\r\n"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_host_that_drips_is_cut_when_the_time_is_up(settings: Any, beginning: bytes, scheme: str) -> None:
    settings.OUTBOUND_NETWORKS = ["127.0.0.0/8"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server, beginning))
        thread.start()
        began = time.monotonic()
        with pytest.raises(TouchstoneError) as error:
            outbound.request("GET", f"{scheme}://127.0.0.1:{server.getsockname()[1]}/", seconds=0.5)
        assert time.monotonic() - began < 10
        assert error.value.code == "unanswered"
        thread.join()


def drip(server: socket.socket, beginning: bytes) -> None:
    connection, _address = server.accept()
    with connection, suppress(OSError):
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + beginning)
        for _ in range(400):
            connection.sendall(b"x")
            time.sleep(0.05)


def test_a_header_cannot_smuggle_another(settings: Any) -> None:
    settings.OUTBOUND_NETWORKS = ["127.0.0.0/8"]
    with receiver() as server, pytest.raises((TouchstoneError, ValueError)):
        outbound.request("GET", server.url, headers={"X-A": "b\r\nX-C: d"})


@pytest.mark.parametrize(
    ("url", "listed"),
    [
        ("https://api.example.org/v1", True), ("https://eu.models.example.org/", True),
        ("http://models.example.org/", False),
        ("https://evilmodels.example.org/", False), ("https://api.example.org:8443/", False),
        ("https://api.example.org.evil.org/", False), ("https://local.example.org:8443/", True),
    ],
)  # fmt: skip
def test_only_listed_hosts_where_a_list_is_given(url: str, listed: bool) -> None:
    hosts = ["api.example.org", ".models.example.org", "local.example.org:8443"]
    if listed:
        assert outbound.target(url, hosts)
    else:
        with pytest.raises(TouchstoneError):
            outbound.target(url, hosts)
