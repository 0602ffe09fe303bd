"""What docs/resource-servers.md tells a vendor's API to do is run as it stands, on real JWTs and on forged ones.

Each framework lives in a process of its own, surrounded by nothing but the files of the document. Express has its turn
in `make interop`.
"""

import base64
import hashlib
import hmac
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.backend import BIRCH, READ, Backend
from tests.cast import claims_of
from tests.documents import files
from tests.machine import free_port

pytestmark = pytest.mark.process

DOCUMENT = "resource-servers.md"
DOCUMENTED = ("https://tokens.example.com/e/acorn-production", "https://api.production.acorn.example")
SECONDS = 60
BOUND = 30
HERE, ELSEWHERE = "127.0.0.1", "127.0.0.2"
HOUR = 3600
GO = (1, 22)
INVALID = 'Bearer error="invalid_token"'
INSUFFICIENT = 'Bearer error="insufficient_scope", scope="reports:read"'

# Each reads [{bearer, address, later}] and prints [[status, body, challenge]]; `later` turns its clock on.
DRF = """
import json, sys, time
import django, time_machine
from django.conf import settings
settings.configure(ROOT_URLCONF="project", ALLOWED_HOSTS=["*"], USE_TZ=True, SECRET_KEY="of nothing",
                   REST_FRAMEWORK={"UNAUTHENTICATED_USER": None})
django.setup()
from django.test import Client

def answer(bearer, address, later):
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    with time_machine.travel(time.time() + later):
        got = Client(raise_request_exception=False).get("/reports", headers=headers, REMOTE_ADDR=address)
    return [got.status_code, got.json(), got.headers.get("WWW-Authenticate")]

print(json.dumps([answer(**asked) for asked in json.load(sys.stdin)]))
"""
PROJECT = """
from django.urls import path
from views import reports

urlpatterns = [path("reports", reports)]
"""
FASTAPI = """
import asyncio, json, sys, time
import httpx2, time_machine
from main import app

async def answer(bearer, address, later):
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    transport = httpx2.ASGITransport(app=app, client=(address, 1))
    with time_machine.travel(time.time() + later):
        async with httpx2.AsyncClient(transport=transport, base_url="http://api") as client:
            got = await client.get("/reports", headers=headers)
    return [got.status_code, got.json(), got.headers.get("WWW-Authenticate")]

print(json.dumps([asyncio.run(answer(**asked)) for asked in json.load(sys.stdin)]))
"""


class Sent(NamedTuple):
    bearer: str
    expected: int
    address: str = HERE
    later: int = 0


class Issuer:
    """An issuer of our own, who signs whatever a forger may wish."""

    kid = "ours"

    def __init__(self) -> None:
        self.key, self.other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        self.rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.audience = "https://api.example"
        public = jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        self.lists: dict[str, bytes] = {}
        documents = self.lists
        document = json.dumps({"keys": [{**public, "kid": self.kid, "use": "sig", "alg": "ES256"}]}).encode()

        class Documents(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(documents.get(self.path, document))

            def log_message(self, *arguments: object) -> None:
                """Nobody reads it."""

        self.server = ThreadingHTTPServer((HERE, 0), Documents)
        self.origin = f"http://{HERE}:{self.server.server_port}"
        self.issuer = f"{self.origin}/e/x"

    def sign(self, *, key=None, alg="ES256", without=(), header=None, **claims) -> str:
        now = int(time.time())
        whole = {
            "iss": self.issuer, "aud": self.audience, "iat": now, "exp": now + HOUR, "sub": "c", "client_id": "c",
            "jti": "j", "scope": "apitokens:read reports:read", "tenant": "t", "tenant_external_id": BIRCH, **claims,
        }  # fmt: skip
        payload = {name: value for name, value in whole.items() if name not in without}
        return jwt.encode(payload, key or self.key, alg, {"kid": self.kid, "typ": "at+jwt", **(header or {})})

    def with_public_key_as_secret(self) -> str:
        header = {"alg": "HS256", "kid": self.kid, "typ": "at+jwt"}
        signed = ".".join([_base64(json.dumps(header).encode()), self.sign().split(".")[1]])
        secret = self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return f"{signed}.{_base64(hmac.digest(secret, signed.encode(), hashlib.sha256))}"

    def unsigned(self) -> str:
        header = _base64(json.dumps({"alg": "none", "kid": self.kid, "typ": "at+jwt"}).encode())
        return f"{header}.{self.sign().split('.')[1]}."

    def cases(self) -> dict[str, Sent]:
        ago = int(time.time()) - HOUR
        return {
            "good": Sent(self.sign(), 200),
            "for several APIs": Sent(self.sign(aud=["https://b.example", self.audience]), 200),
            "another API's": Sent(self.sign(aud="https://b.example"), 401),
            "for no API": Sent(self.sign(without=["aud"]), 401),
            "another issuer's": Sent(self.sign(iss="https://tokens.example/e/x"), 401),
            "an issuer that begins alike": Sent(self.sign(iss=f"{self.issuer}y"), 401),
            "without an issuer": Sent(self.sign(without=["iss"]), 401),
            "expired": Sent(self.sign(exp=ago), 401),
            "without an end": Sent(self.sign(without=["exp"]), 401),
            "a status list's type": Sent(self.sign(header={"typ": "statuslist+jwt"}), 401),
            "any JWT's type": Sent(self.sign(header={"typ": "JWT"}), 401),
            "another key under our kid": Sent(self.sign(key=self.other), 401),
            "an unknown kid": Sent(self.sign(key=self.other, header={"kid": "other"}), 401),
            "its own key in the header": Sent(
                self.sign(
                    key=self.other,
                    header={"jwk": jwt.algorithms.ECAlgorithm.to_jwk(self.other.public_key(), as_dict=True)},
                ),
                401,
            ),
            "another algorithm": Sent(self.sign(key=self.rsa, alg="RS256"), 401),
            "HS256 with the public key": Sent(self.with_public_key_as_secret(), 401),
            "unsigned": Sent(self.unsigned(), 401),
            "a scope that begins alike": Sent(self.sign(scope="reports:read-all"), 403),
            "a scope in other case": Sent(self.sign(scope="Reports:Read"), 403),
            "no scope left": Sent(self.sign(scope=""), 403),
            "from an allowed address": Sent(self.sign(cidr=["2001:db8::/32", "127.0.0.1/32"]), 200),
            "from another address": Sent(self.sign(cidr=["2001:db8::/32", "127.0.0.1/32"]), 401, ELSEWHERE),
            "from nowhere": Sent(self.sign(cidr=[]), 401),
            "not a JWT": Sent("a.b.c", 401),
            "nothing": Sent("", 401),
        }


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@pytest.fixture(scope="module")
def forger():
    issuer = Issuer()
    Thread(target=issuer.server.serve_forever, daemon=True).start()
    yield issuer
    issuer.server.shutdown()
    issuer.server.server_close()


@pytest.fixture(scope="module")
def backend(server):
    return Backend(server)


@pytest.fixture(scope="module")
def real(server, backend):
    """Bearers that the real server made, and what an API that reads offline has to say of them."""
    staging = Backend(server, "Staging")
    client = backend.make(permissions=["reports:read", "reports:write"])
    restricted = backend.grant(backend.make(ip_allowlist=["127.0.0.0/31"]))
    good = backend.grant(client)
    return {
        "good": Sent(good, 200),
        "tampered with": Sent(good[:-5] + ("AAAAA" if good[-5:] != "AAAAA" else "BBBBB"), 401),
        "after its end": Sent(good, 401, later=HOUR + 1),
        "of another environment": Sent(staging.grant(staging.make()), 401),
        "an access token": Sent(backend.make(kind="access_token")["access_token"], 401),
        "a client secret": Sent(client["client_secret"], 401),
        "narrowed": Sent(backend.grant(client, scope="reports:write"), 403),
        "from an allowed address": Sent(restricted, 200),
        "from another address": Sent(restricted, 401, ELSEWHERE),
    }


@pytest.fixture
def copied(tmp_path):
    """Writes the document's files down, for an issuer and an API of one's own."""

    def copy(issuer: str, audience: str) -> None:
        for name, text in files(DOCUMENT).items():
            (tmp_path / name).write_text(text.replace(DOCUMENTED[0], issuer).replace(DOCUMENTED[1], audience))

    return copy


def in_python(folder: Path, program: str, given: object) -> object:
    """What a program says to what it is given, as JSON, in that folder."""
    ended = subprocess.run(  # noqa: S603 -- our own command
        [sys.executable, "-c", program],
        cwd=folder,
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def as_asked(cases: dict[str, Sent]) -> list[dict[str, object]]:
    return [{"bearer": sent.bearer, "address": sent.address, "later": sent.later} for sent in cases.values()]


# framework -> what runs it, and what it challenges with, per status
FRAMEWORKS = {
    "DRF": (DRF, {401: 'Bearer realm="api"'}),
    "FastAPI": (FASTAPI, {401: INVALID, 403: INSUFFICIENT}),
}


@pytest.fixture(params=["real", "forged"])
def source(request, backend, forger):
    """Who issues, and the bearers to try."""
    if request.param == "forged":
        return forger, forger.cases()
    return backend, request.getfixturevalue("real")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_documented_python_lets_in_whom_it_should(copied, tmp_path, source, framework):
    program, challenges = FRAMEWORKS[framework]
    issuer, cases = source
    copied(issuer.issuer, issuer.audience)
    (tmp_path / "project.py").write_text(PROJECT)
    answers = dict(zip(cases, in_python(tmp_path, program, as_asked(cases)), strict=True))
    assert {name: status for name, (status, _, _) in answers.items()} == expected(cases)
    assert all(body == {"tenant": BIRCH} for status, body, _ in answers.values() if status == 200)
    for name, (status, _, challenge) in answers.items():
        # Without any credential there is nothing to call invalid (RFC 6750 section 3.1).
        wanted = "Bearer" if name == "nothing" and framework == "FastAPI" else challenges.get(status)
        assert (name, challenge) == (name, wanted)


def expected(cases: dict[str, Sent]) -> dict[str, int]:
    return {name: sent.expected for name, sent in cases.items()}


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_documented_python_says_503_when_the_keys_cannot_be_had(copied, tmp_path, backend, real, framework):
    copied(f"http://{HERE}:{free_port()}/e/x", backend.audience)
    (tmp_path / "project.py").write_text(PROJECT)
    [[status, _, challenge]] = in_python(tmp_path, FRAMEWORKS[framework][0], as_asked({"good": real["good"]}))
    assert (status, challenge) == (503, None)


# Reads {function: [arguments]} of a module and prints what each call returned.
CALL = """
import importlib, json, sys
module, function, calls = json.load(sys.stdin)
print(json.dumps([getattr(importlib.import_module(module), function)(*arguments) for arguments in calls]))
"""


def test_the_documented_introspection_knows_every_kind_of_token(copied, tmp_path, backend):
    copied(backend.issuer, backend.audience)
    file = tmp_path / "asking.py"
    us = ("acorn_production_1cH5XT0bnLpZ", "acorn_production_cs_…")
    text = file.read_text().replace("https://tokens.example.com", backend.origin)
    for documented, actual in zip(us, backend.client, strict=True):
        assert documented in text
        text = text.replace(documented, actual)
    file.write_text(text)
    client, token = backend.make(), backend.make(kind="access_token", ip_allowlist=["127.0.0.1/32"])
    access, ended = backend.grant(client), backend.make(kind="access_token")
    elsewhere = backend.make(kind="access_token", audiences=[backend.issuer])
    backend.disable(ended)
    calls = [
        (access, HERE),
        (token["access_token"], HERE),
        (token["access_token"], ELSEWHERE),
        (ended["access_token"], HERE),
        (elsewhere["access_token"], HERE),
        (backend.grant(client, resource=backend.issuer), HERE),
        ("nothing", HERE),
    ]
    answers = in_python(tmp_path, CALL, ["asking", "ask", calls])
    assert [answer and (answer["scope"], answer["tenant_external_id"]) for answer in answers] == [
        (READ, BIRCH),
        (READ, BIRCH),
        *[None] * 5,
    ]


def test_the_documented_reading_of_the_status_list_sees_within_30_s_what_was_ended(copied, tmp_path, backend):
    copied(backend.issuer, backend.audience)
    ended, kept = backend.make(), backend.make()
    claims = [claims_of(backend.grant(of)) for of in (ended, kept)]
    calls = ["status", "is_ended", [[one] for one in claims]]
    assert in_python(tmp_path, CALL, calls) == [False, False]
    backend.disable(ended)
    until = time.monotonic() + BOUND
    while (answers := in_python(tmp_path, CALL, calls)) == [False, False] and time.monotonic() < until:
        time.sleep(0.5)
    assert answers == [True, False]


NO_TYPE = "InvalidTokenError: no status list"
# What is signed differently from a list that is read, and why it is not.
NO_LIST = {
    "nothing": ({}, ""),
    "an access token's type": ({"header": {"typ": "at+jwt"}}, NO_TYPE),
    "any JWT's type": ({"header": {"typ": "JWT"}}, NO_TYPE),
    "another list's name": ({"sub": "https://tokens.example/e/x/status/1"}, "Invalid subject"),
    "another issuer's": ({"iss": "https://tokens.example/e/x"}, "Invalid issuer"),
    "no ttl": ({"without": ["aud", "ttl"]}, 'Token is missing the "ttl" claim'),
    "an end in the past": ({"exp": 1}, "Signature has expired"),
    "another key": ({"key": ec.generate_private_key(ec.SECP256R1())}, "Signature verification failed"),
}


@pytest.mark.parametrize("what", NO_LIST)
def test_the_documented_reading_of_the_status_list_takes_nothing_else_for_one(copied, tmp_path, forger, what):
    copied(forger.issuer, forger.audience)
    changed, reason = NO_LIST[what]
    uri = f"{forger.issuer}/status/0"
    of_a_list = {"sub": uri, "ttl": 15, "status_list": {"bits": 1, "lst": _base64(zlib.compress(bytes([0b10])))}}
    usual = {"without": ["aud"], "header": {"typ": "statuslist+jwt"}}
    forger.lists[uri.removeprefix(forger.origin)] = forger.sign(**{**of_a_list, **usual, **changed}).encode()
    call = ["status", "is_ended", [[{"status": {"status_list": {"uri": uri, "idx": index}}}] for index in (0, 1)]]
    if not reason:
        assert in_python(tmp_path, CALL, call) == [False, True]
        return
    with pytest.raises(AssertionError, match=reason):
        in_python(tmp_path, CALL, call)


def has_go() -> bool:
    go = shutil.which("go")
    if not go:
        return False
    version = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True)  # noqa: S603 -- just found
    return tuple(map(int, re.findall(r"\d+", version.stdout)[:2])) >= GO


@pytest.mark.skipif(not has_go(), reason="there is no Go, or one older than 1.22")
def test_the_documented_go_lets_in_whom_it_should(copied, tmp_path, source):
    issuer, cases = source
    copied(issuer.issuer, issuer.audience)
    address = f"{HERE}:{free_port()}"
    with running_go(tmp_path, address):
        # Its clock is the machine's.
        cases = {name: sent for name, sent in cases.items() if not sent.later}
        answers = {name: from_address(sent.address, address, sent.bearer) for name, sent in cases.items()}
    assert {name: status for name, (status, _) in answers.items()} == expected(cases)
    challenges = {200: None, 401: INVALID, 403: INSUFFICIENT}
    assert all(challenge == challenges[status] for status, challenge in answers.values())


@contextmanager
def running_go(folder: Path, address: str) -> Iterator[None]:
    for command in (["mod", "init", "api"], ["mod", "tidy"], ["build", "-o", "api", "."]):
        subprocess.run(["go", *command], cwd=folder, check=True, timeout=10 * SECONDS)  # noqa: S603, S607 -- found before
    with subprocess.Popen([folder / "api"], env={**os.environ, "LISTEN": address}) as api:  # noqa: S603 -- just built
        try:
            deadline = time.monotonic() + SECONDS
            while not answers_at(address):
                assert api.poll() is None, "it ended"
                assert time.monotonic() < deadline, "it does not answer"
            yield
        finally:
            api.terminate()


def answers_at(address: str) -> bool:
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        time.sleep(0.05)
        return False
    return True


def from_address(source: str, address: str, bearer: str) -> tuple[int, str | None]:
    """The status and the challenge of a call that comes from that address of this machine."""
    host, port = address.split(":")
    connection = HTTPConnection(host, int(port), timeout=SECONDS, source_address=(source, 0))
    try:
        connection.request("GET", "/reports", headers={"Authorization": f"Bearer {bearer}"} if bearer else {})
        answer = connection.getresponse()
        return answer.status, answer.getheader("WWW-Authenticate")
    finally:
        connection.close()
