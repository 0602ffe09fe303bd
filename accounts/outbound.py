"""Requests to addresses that somebody else chose: a tenant's identity provider, where events are to be delivered.

Such an address must not lead into the operator's own network. So: https alone, to public addresses alone; the name is
resolved once, every address it has is judged, and the connection goes to one of those and not to what the name says a
moment later. Redirects are answers like others and never followed. Everything together takes at most `SECONDS`, and an
answer has at most `ANSWER_MAX` bytes. Proxies that the environment names are not asked.

`settings.OUTBOUND_NETWORKS` lists networks that are allowed all the same, for providers inside, and for trials, with
plain http too.
"""

import http.client
import io
import ipaddress
import socket
import ssl
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillResolving
from dataclasses import dataclass, field
from threading import BoundedSemaphore
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from audit.words import later

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

SECONDS = 5.0
ANSWER_MAX = 256 * 1024
# With its headers, which http.client bounds too, and what frames it.
RECEIVED_MAX = ANSWER_MAX + 128 * 1024
URL_MAX = 2_000
PORTS = {"https": 443, "http": 80}
# Global by the registry, and yet where a cloud's own services answer.
REFUSED = tuple(
    ipaddress.ip_network(each)
    for each in (
        "168.63.129.16/32",  # Azure
        "192.0.0.0/24",  # of protocols; Oracle's metadata among them
        "192.88.99.0/24",  # 6to4 relays
        "2001::/32",  # Teredo, and 6to4: an IPv4 address inside
        "2002::/16",
    )
)
# All that is given out of IPv6 for the open (RFC 4291); translators' and site-local addresses lie outside of it.
UNICAST = ipaddress.ip_network("2000::/3")
# One at a time in a process, which has two threads: whoever is slow must not take both from those who ask for tokens.
SECONDS_TO_WAIT = 0.25
_place = BoundedSemaphore(1)
_resolving = ThreadPoolExecutor(max_workers=8, thread_name_prefix="resolve")


class OutboundError(Exception):
    """No usable answer. The text is for the log and for who chose the address; it names no address of ours."""


class Refused(OutboundError):
    """We don't go there."""


class Unreachable(OutboundError):
    """It did not answer in time, or not in HTTP, or with too much."""


class TooMuch(OSError):
    """It goes on and on."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    headers: Mapping[str, str]  # by their names in small letters
    body: bytes = field(repr=False)


def get(url: str, *, headers: Mapping[str, str] | None = None, deadline: float | None = None) -> Answer:
    """`deadline` is of the monotonic clock, for several requests that have to share the time; raises OutboundError."""
    return request("GET", url, headers=headers, deadline=deadline)


def post(url: str, body: bytes, *, headers: Mapping[str, str] | None = None, deadline: float | None = None) -> Answer:
    """As `get`."""
    return request("POST", url, body=body, headers=headers, deadline=deadline)


def request(
    method: str,
    url: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    deadline: float | None = None,
) -> Answer:
    """Raises OutboundError."""
    deadline = in_time() if deadline is None else min(deadline, in_time())
    scheme, host, port, target = parts_of(url)
    if not _place.acquire(timeout=SECONDS_TO_WAIT):
        raise Unreachable(later("Too many are asked at this moment. Try again in a few seconds."))
    try:
        return _asked(method, scheme, host, port, target, body, headers, deadline)
    finally:
        _place.release()


def _asked(
    method: str,
    scheme: str,
    host: str,
    port: int,
    target: str,
    body: bytes | None,
    headers: Mapping[str, str] | None,
    deadline: float,
) -> Answer:
    address = _address_of(scheme, host, port, deadline)
    connection = _Connection(scheme, host, port, address, deadline)
    sent = {"Accept-Encoding": "identity", "User-Agent": "Tallystick", "Connection": "close", **(headers or {})}
    try:
        connection.request(method, target, body=body, headers=sent)
        answer = connection.getresponse()
        content = answer.read(ANSWER_MAX + 1)
    except TooMuch as error:
        raise _too_much(host) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unreachable(
            later("%(host)s did not answer as it should: %(why)s.", host=host, why=_in_words(error))
        ) from error
    finally:
        connection.close()
    if len(content) > ANSWER_MAX:
        raise _too_much(host)
    named = {name.lower(): value for name, value in answer.getheaders()}
    return Answer(status=answer.status, headers=named, body=content)


def _too_much(host: str) -> Unreachable:
    return Unreachable(later("%(host)s answered with more than %(most)s KiB.", host=host, most=ANSWER_MAX // 1024))


def in_time() -> float:
    """The deadline of what begins now."""
    return time.monotonic() + SECONDS


def parts_of(url: str) -> tuple[str, str, int, str]:
    """Scheme, host, port and the rest of an absolute address; raises Refused for anything else."""
    try:
        split = urlsplit(url)
        host, port = (split.hostname or "").rstrip("."), split.port
        host = host if ":" in host else host.encode("idna").decode()
    except ValueError as error:
        raise Refused(later("That is no address.")) from error
    is_clean = url.isascii() and url.isprintable() and not set(url) & set(" \\") and len(url) <= URL_MAX
    if not is_clean or split.scheme not in PORTS or not host or split.username is not None or split.fragment:
        raise Refused(
            later("An address begins with https:// and a host name, and holds neither a user name nor a fragment.")
        )
    target = (split.path or "/") + (f"?{split.query}" if split.query else "")
    return split.scheme, host, port or PORTS[split.scheme], target


def is_public(address: Address) -> bool:
    """Whether it is somebody else's, out in the open: not private, local, shared, multicast or for documents."""
    if isinstance(address, ipaddress.IPv6Address) and (inner := address.ipv4_mapped) is not None:
        return is_public(inner)
    if any(address in network for network in REFUSED):
        return False
    if isinstance(address, ipaddress.IPv6Address) and address not in UNICAST:
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def is_allowed(address: Address, scheme: str) -> bool:
    """Public ones by https; those in the operator's own list by http, too."""
    inner = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    if any((inner or address) in network for network in settings.OUTBOUND_NETWORKS):
        return True
    return scheme == "https" and is_public(address)


def _address_of(scheme: str, host: str, port: int, deadline: float) -> Address:
    """One that we may go to, if it has no other; raises OutboundError."""
    try:
        asked = _resolving.submit(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = asked.result(timeout=_left(deadline))
    except StillResolving as error:
        asked.cancel()
        raise Unreachable(later("The name %(host)s was not resolved in time.", host=host)) from error
    except (OSError, UnicodeError) as error:
        # As for an address inside: which names the operator's own network has is nobody's business.
        raise Refused(later("%(host)s is not a public address that is reached by https.", host=host)) from error
    addresses = [ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in found]
    # One that leads inside is enough: whoever owns the name decides in which order they come.
    if not addresses or not all(is_allowed(address, scheme) for address in addresses):
        raise Refused(later("%(host)s is not a public address that is reached by https.", host=host))
    return addresses[0]


class _Timely(io.RawIOBase):
    """What comes from a socket, as long as there is time: an answer that drips must not last for ever.

    `file` is the socket's own, by which it knows that somebody still reads.
    """

    def __init__(self, sock: socket.socket, file: io.BufferedIOBase, deadline: float) -> None:
        self._sock, self._file, self._deadline = sock, file, deadline
        self._left = RECEIVED_MAX

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(_left(self._deadline))
        read = self._sock.recv_into(buffer)
        # Here, whatever the answer says of its own length.
        self._left -= read
        if self._left < 0:
            raise TooMuch
        return read

    def close(self) -> None:
        self._file.close()
        super().close()


class _Response(http.client.HTTPResponse):
    deadline: float

    def __init__(self, sock: socket.socket, *args: Any, **named: Any) -> None:
        super().__init__(sock, *args, **named)
        self.fp = io.BufferedReader(_Timely(sock, self.fp, self.deadline))


class _Connection(http.client.HTTPConnection):
    """To that very address, whatever the name says by now; the certificate has to be the name's."""

    def __init__(self, scheme: str, host: str, port: int, address: Address, deadline: float) -> None:
        super().__init__(host, port)
        self._is_tls, self._address, self._deadline = scheme == "https", address, deadline
        self.default_port = PORTS[scheme]
        self.response_class = type("_ResponseInTime", (_Response,), {"deadline": deadline})

    def connect(self) -> None:
        self.sock = socket.create_connection((str(self._address), self.port), timeout=_left(self._deadline))
        if self._is_tls:
            self.sock.settimeout(_left(self._deadline))
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)

    def send(self, data: Any) -> None:
        if self.sock is not None:
            self.sock.settimeout(_left(self._deadline))
        super().send(data)


def _left(deadline: float) -> float:
    """Raises TimeoutError when there is none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("time is up")
    return left


def _in_words(error: Exception) -> object:
    match error:
        case TimeoutError():
            return later("it took too long")
        case ssl.SSLCertVerificationError():
            return later("its certificate is not good (%(why)s)", why=error.verify_message)
        case ssl.SSLError():
            return later("it does not speak TLS")
        case ConnectionRefusedError():
            return later("it refuses the connection")
        case http.client.HTTPException() | ValueError():
            return later("that was no HTTP")
    return later("the connection failed")
