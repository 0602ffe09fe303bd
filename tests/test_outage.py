"""A database that is gone, as the real server tells of it: 503 and when to try again, never a wrong answer (R11)."""

from types import SimpleNamespace

import pytest

from tests.backend import Backend
from tests.cast import basic, bearer, claims_of
from tests.machine import postgres_cluster
from tests.server import running_server

pytestmark = [pytest.mark.process, pytest.mark.postgres]

SECONDS = 5
# More often than the server has threads that keep a connection, each of which has to find out for itself.
ROUNDS = 8
DETAIL = "The service lacks something that it needs to answer. Try again in a few seconds."
AT_OAUTH = {"error": "temporarily_unavailable", "error_description": DETAIL}
AT_API = {
    "type": "urn:tallystick:problem:unavailable",
    "title": "Service Unavailable",
    "status": 503,
    "detail": DETAIL,
    "code": "unavailable",
}


@pytest.fixture(scope="module")
def asked():
    """A server on a PostgreSQL of its own, with good credentials of every kind that have been used on it."""
    with postgres_cluster() as cluster, running_server(beside=cluster.url) as server:
        backend = Backend(server)
        client, opaque = backend.make(), backend.make(kind="access_token")
        text = backend.grant(client)
        own = {"Authorization": basic(*backend.client)["Authorization"]}
        place = claims_of(text)["status"]["status_list"]["uri"]
        themselves = basic(client["client_id"], client["client_secret"])
        form = {"grant_type": "client_credentials"}
        yield SimpleNamespace(
            cluster=cluster,
            backend=backend,
            requests={
                "token": ("POST", "/oauth2/token", themselves, form),
                "token, in the body": ("POST", "/oauth2/token", {}, {**form, **_in_body(client)}),
                "introspect a JWT": ("POST", "/oauth2/introspect", own, {"token": text}),
                "introspect an access token": ("POST", "/oauth2/introspect", own, {"token": opaque["access_token"]}),
                "introspect, by an access token": (
                    "POST",
                    "/oauth2/introspect",
                    bearer(backend.own["access_token"]),
                    {"token": text},
                ),
                "revoke a JWT": ("POST", "/oauth2/revoke", themselves, {"token": backend.grant(client)}),
                "revoke an access token": (
                    "POST",
                    "/oauth2/revoke",
                    {},
                    {"token": backend.make(kind="access_token")["access_token"]},
                ),
                "self, by a JWT": ("GET", "/api/v1/token/self", bearer(text), None),
                "self, by an access token": ("GET", "/api/v1/token/self", bearer(opaque["access_token"]), None),
                "self, as Basic": ("GET", "/api/v1/token/self", own, None),
                "the key set": ("GET", f"{backend.issuer}/jwks.json", {}, None),
                "metadata": ("GET", f"{backend.issuer}/.well-known/oauth-authorization-server", {}, None),
                "the status list": ("GET", place, {}, None),
            },
        )


def _in_body(client):
    return {"client_id": client["client_id"], "client_secret": client["client_secret"]}


def _send(asked, name):
    method, address, headers, form = asked.requests[name]
    return asked.backend.send(method, address, headers=headers, data=form, timeout=SECONDS)


def test_a_database_that_is_gone_is_503_everywhere_and_all_is_well_once_it_is_back(asked):
    ended = {name for name in asked.requests if name.startswith("revoke")}
    before = {name: _send(asked, name).status_code for name in asked.requests if name not in ended}
    assert set(before.values()) == {200}
    asked.cluster.stop()
    for _ in range(ROUNDS):
        for name in asked.requests:
            _is_unavailable(_send(asked, name))
    asked.cluster.start()
    # Nothing of what was refused meanwhile was done, and whoever tries again is answered.
    tried = {name: _send(asked, name) for name in asked.requests}
    assert {name: answer.status_code for name, answer in tried.items()} == dict.fromkeys(asked.requests, 200)
    for name in ("introspect a JWT", "introspect an access token", "introspect, by an access token"):
        assert tried[name].json()["active"] is True
    for name in ended:
        again = asked.requests[name][3]["token"]
        assert asked.backend.send("GET", "/api/v1/token/self", headers=bearer(again)).status_code == 401


def _is_unavailable(answer):
    assert (answer.status_code, answer.headers["Retry-After"], answer.headers["Cache-Control"]) == (
        503,
        "5",
        "no-store",
    )
    assert "WWW-Authenticate" not in answer.headers
    path = answer.request.path_url
    if path.startswith("/oauth2/"):
        assert answer.json() == AT_OAUTH
        assert answer.headers["Content-Type"] == "application/json"
    elif path.startswith("/api/"):
        assert answer.json() == AT_API
        assert answer.headers["Content-Type"] == "application/problem+json"
    else:
        assert answer.text == DETAIL
