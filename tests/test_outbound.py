"""Requests to addresses that somebody else chose lead to nothing of the operator's own, and end in time."""

import http.server
import socket
import threading
import time
from contextlib import contextmanager, suppress
from ipaddress import ip_address, ip_network

import pytest

from accounts import outbound

INSIDE = [
    "0.0.0.1", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254", "168.63.129.16",
    "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1",
    "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "224.0.1.1", "239.255.255.255", "240.0.0.1",
    "255.255.255.255", "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
    "64:ff9b::a00:1", "64:ff9b:1::a00:1", "100::1", "2001::1", "2001:db8::1", "2002:a00:1::", "fc00::1",
    "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1", "ff0e::1",
]  # fmt: skip
OUTSIDE = ["1.1.1.1", "8.8.8.8", "93.184.215.14", "172.15.255.255", "172.32.0.1", "100.63.255.255", "100.128.0.1",
           "2606:4700::1111", "2a00:1450:4001::1", "::ffff:8.8.8.8"]  # fmt: skip
NO_ADDRESS = [
    "", "example.com", "//example.com", "ftp://example.com", "file:///etc/passwd", "https://", "https:///path",
    "https://user@example.com", "https://user:word@example.com", "https://example.com#part", "https://exa mple.com",
    "https://example.com\\@10.0.0.1", "https://example.com:port", "https://[::1", "https://example.com/\r\nX: y",
    "gopher://example.com", "javascript:alert(1)", "https://ex\u0430mple.com/", f"https://example.com/{'x' * 3000}",
]  # fmt: skip


@pytest.mark.parametrize("address", INSIDE)
def test_what_is_not_out_in_the_open_is_refused(address, settings):
    settings.OUTBOUND_NETWORKS = []
    assert not outbound.is_allowed(ip_address(address), "https")
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(outbound.Refused):
        outbound.get(f"https://{host}/")


@pytest.mark.parametrize("address", OUTSIDE)
def test_what_is_out_in_the_open_is_reached_by_https_alone(address, settings):
    settings.OUTBOUND_NETWORKS = []
    assert outbound.is_allowed(ip_address(address), "https")
    assert not outbound.is_allowed(ip_address(address), "http")


def test_the_operator_allows_networks_of_their_own_and_plain_http_there(settings):
    settings.OUTBOUND_NETWORKS = [ip_network("10.1.0.0/16"), ip_network("fd12::/16")]
    for scheme in ("http", "https"):
        assert outbound.is_allowed(ip_address("10.1.2.3"), scheme)
        assert outbound.is_allowed(ip_address("::ffff:10.1.2.3"), scheme)
        assert outbound.is_allowed(ip_address("fd12::1"), scheme)
        assert not outbound.is_allowed(ip_address("10.2.0.1"), scheme)


@pytest.mark.parametrize("url", NO_ADDRESS)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(outbound.Refused):
        outbound.get(url)


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "localhost", "localhost."])
def test_an_address_in_disguise_is_what_it_leads_to(host, settings):
    settings.OUTBOUND_NETWORKS = []
    with pytest.raises(outbound.OutboundError):
        outbound.get(f"https://{host}/")


@pytest.fixture
def names(monkeypatch):
    """What names lead to, each time they are asked; as a name server answers that changes its mind."""
    asked: dict[str, list[list[str]]] = {}
    real = socket.getaddrinfo

    def answer(host, port, *args, **named):
        if host not in asked:
            return real(host, port, *args, **named)
        addresses = asked[host].pop(0)
        return [found for address in addresses for found in real(address, port, type=socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return asked


def test_one_address_inside_among_others_is_enough_to_refuse(names, settings):
    settings.OUTBOUND_NETWORKS = []
    names["two.example"] = [["8.8.8.8", "10.0.0.1"]]
    with pytest.raises(outbound.Refused):
        outbound.get("https://two.example/")


@contextmanager
def answering(handle):
    """A server on this machine; `handle` gets its request handler."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            handle(self)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def allowed(settings):
    settings.OUTBOUND_NETWORKS = [ip_network("127.0.0.0/8")]


def say(handler, status=200, body=b"here", **headers):
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def test_the_name_is_asked_once_and_the_connection_goes_where_it_led(allowed, names):
    seen = []
    with answering(lambda handler: (seen.append(handler.headers["Host"]), say(handler))) as port:
        names["changes.example"] = [["127.0.0.1"], ["10.0.0.1"]]
        answer = outbound.get(f"http://changes.example:{port}/x?y=1")
    assert (answer.status, answer.body) == (200, b"here")
    assert names["changes.example"] == [["10.0.0.1"]]
    assert seen == [f"changes.example:{port}"]


def test_a_redirect_is_an_answer_and_not_followed(allowed):
    with answering(lambda handler: say(handler, 302, b"", Location="http://169.254.169.254/")) as port:
        assert outbound.get(f"http://127.0.0.1:{port}/").status == 302


def test_no_proxy_of_the_environment_is_asked(allowed, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with answering(say) as port:
        assert outbound.get(f"http://127.0.0.1:{port}/").body == b"here"


@pytest.mark.parametrize("length", [None, str(outbound.ANSWER_MAX + 1)])
def test_an_answer_has_its_bound(allowed, length):
    def much(handler):
        headers = {"Content-Length": length} if length else {"Connection": "close"}
        handler.send_response(200)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(b"x" * (outbound.ANSWER_MAX + 1))

    with answering(much) as port, pytest.raises(outbound.Unreachable, match="more than"):
        outbound.get(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize("framed", [b"-1\r\n", b"0\r\n" + b"X: y\r\n" * 100_000, b"1\r\nx\r\n" * 100_000])
def test_it_has_its_bound_whatever_it_says_of_its_length(allowed, framed):
    def in_chunks(handler):
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        with suppress(OSError):
            handler.wfile.write(framed + b"x" * 10 * outbound.ANSWER_MAX)

    with answering(in_chunks) as port, pytest.raises(outbound.Unreachable, match=r"more than|no HTTP"):
        outbound.get(f"http://127.0.0.1:{port}/")


def test_one_is_asked_at_a_time_and_nobody_waits_for_long(allowed):
    with answering(say) as port:
        with outbound._place, pytest.raises(outbound.Unreachable, match="Too many"):
            outbound.get(f"http://127.0.0.1:{port}/")
        assert outbound.get(f"http://127.0.0.1:{port}/").status == 200


def _never(handler):
    time.sleep(3)


def _drip_body(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(30):
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.1)


def _drip_headers(handler):
    for _ in range(30):
        handler.wfile.write(b"H")
        handler.wfile.flush()
        time.sleep(0.1)


@pytest.mark.parametrize("handle", [_never, _drip_body, _drip_headers])
def test_it_ends_in_time_however_the_answer_comes(allowed, monkeypatch, handle):
    monkeypatch.setattr(outbound, "SECONDS", 0.5)

    def quietly(handler):
        with suppress(OSError):
            handle(handler)

    with answering(quietly) as port:
        began = time.monotonic()
        with pytest.raises(outbound.Unreachable, match="took too long"):
            outbound.get(f"http://127.0.0.1:{port}/")
        assert time.monotonic() - began < 1.5


def test_a_name_that_is_not_resolved_in_time_is_given_up(monkeypatch):
    monkeypatch.setattr(outbound, "SECONDS", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(1) or [])
    began = time.monotonic()
    with pytest.raises(outbound.Unreachable, match="not resolved in time"):
        outbound.get("https://slow.example/")
    assert time.monotonic() - began < 0.9


def test_what_is_no_http_or_nobody_is_told_apart(allowed):
    with answering(lambda handler: handler.wfile.write(b"SSH-2.0-x\r\n")) as port:
        with pytest.raises(outbound.Unreachable, match="no HTTP"):
            outbound.get(f"http://127.0.0.1:{port}/")
        with pytest.raises(outbound.Unreachable, match="TLS"):
            outbound.get(f"https://127.0.0.1:{port}/")
    with pytest.raises(outbound.Unreachable, match="refuses"):
        outbound.get(f"http://127.0.0.1:{port}/")
