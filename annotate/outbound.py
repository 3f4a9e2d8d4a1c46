"""The only way the site makes an outgoing HTTP request to an address that somebody typed.

The host is resolved once, every address of it is checked, and the connection is made to a checked address, so that
neither another spelling of a local address nor a name that changes its mind gets through. Redirects are answers,
never followed; environment proxies are not asked; sizes and times are bounded. ``OUTBOUND_NETWORKS`` names private
networks that may be reached all the same (an endpoint in one's own data centre, the receiver of a test).
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from django.conf import settings

from annotate.errors import TouchstoneError

Address = IPv4Address | IPv6Address
LONGEST_URL = 2_000
PIECE = 1 << 16
UNICAST = ip_network("2000::/3")
EMBEDDING = [ip_network(text) for text in ("2001::/32", "2002::/16")]  # Teredo, 6to4: an IPv4 address inside
NUMERIC = re.compile(r"(0x[0-9a-f]*|[0-9]+)\Z")
HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*\Z")


@dataclass(frozen=True)
class Target:
    """An address as it is asked for: scheme, host without brackets, port, and path with query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def host_header(self) -> str:
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return shown if self.port == {"http": 80, "https": 443}[self.scheme] else f"{shown}:{self.port}"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


def refused(words: str) -> TouchstoneError:
    return TouchstoneError(words, code="refused")


def unanswered(words: str) -> TouchstoneError:
    return TouchstoneError(words, code="unanswered")


def target(url: str, hosts: Collection[str] | None = None) -> Target:
    """The address taken apart, if it is one that may be asked; nothing is resolved. For forms, and before each request.

    ``hosts``: only these ("api.example.org", ".example.org" for all below it, with ":8443" for another port).
    """
    if len(url) > LONGEST_URL or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise refused("The address has characters that no address has, or is too long.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise refused("This is not an address.") from None
    if parts.scheme not in ("http", "https"):
        raise refused("The address must begin with https:// or http://.")
    if parts.username is not None or parts.password is not None:
        raise refused("The address must not carry a user name or password.")
    found = Target(
        parts.scheme, host_of(parts), port or {"http": 80, "https": 443}[parts.scheme], path_of(parts)
    )
    if port == 0 or (hosts is not None and not is_listed(found, hosts)):
        raise refused(f"{found.host_header} is not among the hosts that this installation may ask.")
    literal = literal_of(found.host)
    if literal is not None:
        check(literal)
    return found


def host_of(parts: SplitResult) -> str:
    """The host in small letters; a number that is no plain IP address (2130706433, 0177.1, 0x7f.1) is none."""
    host = (parts.hostname or "").removesuffix(".")
    if literal_of(host) is not None:
        return host
    if (
        "[" in parts.netloc
        or not HOST.match(host)
        or len(host) > 253
        or NUMERIC.match(host.rpartition(".")[2])
    ):
        raise refused("The address has no host name that can be asked.")
    return host


def path_of(parts: SplitResult) -> str:
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def literal_of(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def is_listed(found: Target, hosts: Collection[str]) -> bool:
    for listed in hosts:
        name, _colon, port = listed.lower().partition(":")
        port_fits = str(found.port) == port if port else found.port in (80, 443)
        if port_fits and (found.host == name or (name.startswith(".") and found.host.endswith(name))):
            return True
    return False


def check(address: Address) -> None:
    """Refuse an IP address that is not a public one, unless the installation allows its network."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if is_public(address) or any(address in ip_network(allowed) for allowed in settings.OUTBOUND_NETWORKS):
        return
    raise refused("The address leads into a private or local network, which is not asked.")


def is_public(address: Address) -> bool:
    if address.is_multicast or not address.is_global:
        return False
    if isinstance(address, IPv4Address):
        return True
    return address in UNICAST and not any(address in network for network in EMBEDDING)


def addresses(found: Target) -> list[str]:
    """What the host resolves to, once; if any of it may not be asked, none of it is."""
    try:
        rows = socket.getaddrinfo(found.host, found.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise unanswered(f"{found.host} has no address.") from None
    resolved = list(dict.fromkeys(str(row[4][0]).partition("%")[0] for row in rows))
    for address in resolved:
        check(ip_address(address))
    return resolved


class Connection(http.client.HTTPConnection):
    """To an address that was checked; the certificate must be the named host's. When its time is up, it is cut.

    A time-out of the socket is for one read only: a host that sends a byte now and then would never end.
    """

    def __init__(self, found: Target, address: str, deadline: float) -> None:
        left = max(0.05, deadline - time.monotonic())
        super().__init__(found.host, found.port, timeout=left)
        self.found, self.address, self.is_late = found, address, False
        self.wire: socket.socket | None = None
        self.clock = threading.Timer(left, self.cut)
        self.clock.daemon = True

    def connect(self) -> None:
        self.clock.start()
        self.sock = self.wire = socket.create_connection((self.address, self.found.port), self.timeout)
        if self.found.scheme == "https":
            context = ssl.create_default_context()
            wrapped = context.wrap_socket(
                self.sock, server_hostname=self.found.host, do_handshake_on_connect=False
            )
            self.sock = self.wire = wrapped
            wrapped.do_handshake()

    def cut(self) -> None:
        self.is_late = True
        if self.wire is not None:
            with suppress(OSError):
                self.wire.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        self.clock.cancel()
        self.close()


class Incoming:
    """An answer whose body comes piece by piece, within the bounds of size and time."""

    def __init__(self, response: http.client.HTTPResponse, connection: Connection, most: int) -> None:
        self.response, self.connection, self.most = response, connection, most
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}

    def pieces(self) -> Iterator[bytes]:
        size, host = 0, self.connection.found.host
        while piece := self.response.read1(PIECE):
            size += len(piece)
            if size > self.most:
                raise unanswered(f"{host} answered with more than {self.most:,} bytes.")
            yield piece
        if self.connection.is_late:
            raise unanswered(f"{host} took too long to answer.")


@contextmanager
def opened(
    method: str,
    url: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    hosts: Collection[str] | None = None,
    seconds: float = 10.0,
    most: int = 1 << 20,
) -> Iterator[Incoming]:
    """Ask, and read the answer as it comes. ``seconds`` and ``most`` (bytes) bound all of it, not each part."""
    found, deadline = target(url, hosts), time.monotonic() + seconds
    connection = None
    try:
        connection = connected(found, deadline)
        sent = {
            "Accept-Encoding": "identity",
            "User-Agent": "Touchstone",
            **(headers or {}),
            "Connection": "close",
        }
        connection.request(method, found.path, body, {**sent, "Host": found.host_header})
        yield Incoming(connection.getresponse(), connection, most)
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, TimeoutError) or (connection is not None and connection.is_late):
            raise unanswered(f"{found.host} took too long to answer.") from None
        words = f"{found.host} did not answer: {error or type(error).__name__}"
        raise unanswered(f"{words[:200].rstrip('.')}.") from None
    finally:
        if connection is not None:
            connection.end()


def connected(found: Target, deadline: float) -> Connection:
    """To the first address that takes the connection, each of them checked."""
    last: OSError = OSError("no address")
    for address in addresses(found)[:4]:
        connection = Connection(found, address, deadline)
        try:
            connection.connect()
            return connection
        except OSError as error:
            last = TimeoutError() if connection.is_late else error
            connection.end()
    raise last


def request(
    method: str,
    url: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    hosts: Collection[str] | None = None,
    seconds: float = 10.0,
    most: int = 1 << 20,
) -> Answer:
    """Ask, and take the whole answer."""
    with opened(method, url, body, headers, hosts=hosts, seconds=seconds, most=most) as incoming:
        return Answer(incoming.status, incoming.headers, b"".join(incoming.pieces()))
