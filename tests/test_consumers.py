"""What docs/consumers.md tells who uses a token: its programs run as they stand, its tables are what is answered."""

import json
import subprocess
import sys
from types import SimpleNamespace
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from django.conf import settings
from django.db import OperationalError, connection

from apitokens import limiter
from tests.backend import Backend
from tests.cast import basic, bearer, claims_of, jwt_of
from tests.documents import files, rows, text

DOCUMENT = "consumers.md"
SECONDS = 60
FORM = "application/x-www-form-urlencoded"
GRANT = {"grant_type": "client_credentials"}


@pytest.fixture
def client(acme):
    """Acme's client, which may do what a viewer may, and an access token that may do what an admin may."""
    issued = acme.issue("admin", kind="client_credentials", roles=["viewer"])
    access = acme.issue("admin", kind="access_token", roles=["admin"], name="Access").plaintext
    return SimpleNamespace(issued=issued, id=issued.token.client_id, secret=issued.plaintext, access=access)


def ask(machine, form=None, headers=None, *, body=None):
    data = urlencode({**GRANT, **(form or {})}) if body is None else body
    return machine.post("/oauth2/token", data=data, content_type=FORM, headers=headers)


def without_database(call):
    return with_fault(OperationalError("server closed the connection unexpectedly"), call)


def with_fault(fault, call):
    def fail(*_):
        raise fault

    with connection.execute_wrapper(fail):
        return call()


def of_no_length(machine, address, headers):
    """As a proxy passes on what came in chunks."""
    return machine.generic("POST", address, headers={**headers, "Transfer-Encoding": "chunked"})


def changed_meanwhile(machine, client):
    path = f"tokens/{client.issued.token.token_id}"
    return api(machine, path, {**bearer(client.access), "If-Match": '"another"'}, "patch", name="New")


def after_many(times, call):
    for _ in range(times):
        call()
    return call()


def disabled(machine, client):
    stopped = api(machine, f"tokens/{client.issued.token.token_id}/disable", bearer(client.access), "post")
    assert stopped.status_code == 200, stopped.content
    return ask(machine, headers=basic(client.id, client.secret))


def own(client):
    return basic(client.id, client.secret)


# (status, error) of the document's table -> a request that is answered so.
AT_THE_TOKEN_ENDPOINT = {
    (400, "invalid_request"): lambda m, c: ask(m, body="scope=reports:read", headers=own(c)),
    (400, "invalid_client"): lambda m, c: ask(m, {"client_id": c.id, "client_secret": "wrong"}),
    (401, "invalid_client"): lambda m, c: ask(m, headers=basic(c.id, "wrong")),
    (400, "unauthorized_client"): disabled,
    (400, "unsupported_grant_type"): lambda m, c: ask(m, {"grant_type": "password"}, own(c)),
    (400, "invalid_scope"): lambda m, c: ask(m, {"scope": "reports:write"}, own(c)),
    (400, "invalid_target"): lambda m, c: ask(m, {"resource": "https://unknown.example"}, own(c)),
    (405, "invalid_request"): lambda m, c: m.get("/oauth2/token"),
    (411, "invalid_request"): lambda m, c: of_no_length(m, "/oauth2/token", own(c)),
    (413, "invalid_request"): lambda m, c: ask(m, body="x" * (settings.BODY_LIMIT + 1), headers=own(c)),
    (429, "temporarily_unavailable"): lambda m, c: after_many(
        limiter.PER_CLIENT, lambda: ask(m, headers=basic(c.id, "wrong"))
    ),
    (500, "server_error"): lambda m, c: with_fault(ValueError("a fault of ours"), lambda: ask(m, headers=own(c))),
    (503, "temporarily_unavailable"): lambda m, c: without_database(lambda: ask(m, headers=own(c))),
}


def api(machine, path, headers=None, method="get", **body):
    return getattr(machine, method)(
        f"/api/v1/{path}", headers=headers, content_type="application/json", data=body or None
    )


def by_jwt(machine, client):
    return bearer(jwt_of(machine, client.issued))


AT_THE_API = {
    (400, "invalid"): lambda m, c: api(m, "tokens", bearer(c.access), "post", nonsense=1),
    (401, "invalid_token"): lambda m, c: api(m, "token/self", bearer("wrong")),
    (401, "not_authenticated"): lambda m, c: api(m, "token/self"),
    (403, "insufficient_scope"): lambda m, c: api(m, "members", by_jwt(m, c)),
    (404, "not_found"): lambda m, c: api(m, "tokens/000000000000", by_jwt(m, c)),
    (411, "length_required"): lambda m, c: of_no_length(m, "/api/v1/tokens", bearer(c.access)),
    (412, "stale"): changed_meanwhile,
    (413, "too_large"): lambda m, c: api(
        m, "tokens", bearer(c.access), "post", description="x" * (settings.BODY_LIMIT + 1)
    ),
    (429, "too_many_refusals"): lambda m, c: after_many(
        limiter.PER_ADDRESS, lambda: api(m, "token/self", bearer("wrong"))
    ),
    (500, "server_error"): lambda m, c: with_fault(
        ValueError("a fault of ours"), lambda: api(m, "token/self", bearer(c.access))
    ),
    (503, "unavailable"): lambda m, c: without_database(lambda: api(m, "token/self", bearer(c.access))),
}
TABLES = {"error": AT_THE_TOKEN_ENDPOINT, "code": AT_THE_API}


@pytest.mark.parametrize("member", TABLES)
def test_the_document_has_a_row_for_each_of_these_answers(member):
    documented = rows(DOCUMENT, ("status", member, "because", "do"))
    assert [(int(status), word) for status, word, *_ in documented] == list(TABLES[member])


@pytest.mark.parametrize(
    ("member", "row"),
    [pytest.param(member, row, id=f"{row[0]} {row[1]}") for member in TABLES for row in TABLES[member]],
)
def test_the_server_says_what_the_document_says(machine, client, member, row):
    machine.raise_request_exception = False
    answer = TABLES[member][row](machine, client)
    assert (answer.status_code, answer.json()[member]) == row
    assert ("Retry-After" in answer.headers) == (row[0] in (429, 503))
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_right_secret_passes_over_the_limit(machine, client):
    limited = AT_THE_TOKEN_ENDPOINT[429, "temporarily_unavailable"](machine, client)
    assert limited.status_code == 429
    assert ask(machine, headers=own(client)).status_code == 200


# Counts what the documented program asks for: two calls share a JWT, one that was ended is replaced, once a call.
CONSUMER = """
import json, sys
import requests, tokens

asked, given = [], json.load(sys.stdin)
send = requests.Session.send

def counting(session, request, **options):
    asked.append(f"{request.method} {request.path_url}")
    return send(session, request, **options)

requests.Session.send = counting
kept = tokens.Tokens(given["endpoint"], given["client_id"], given["client_secret"])
statuses = [tokens.call(kept, "GET", given["api"]).status_code for _ in range(2)]
ended = {"token": kept.get(), "client_id": given["client_id"], "client_secret": given["client_secret"]}
requests.post(given["revoke"], data=ended)
statuses.append(tokens.call(kept, "GET", given["api"]).status_code)
kept.renew_at = 0.0
statuses.append(tokens.call(kept, "GET", given["api"]).status_code)
statuses.append(tokens.call(kept, "GET", given["unknown"]).status_code)
print(json.dumps([statuses, asked]))
"""


@pytest.fixture(scope="module")
def backend(server):
    return Backend(server)


def run(folder, program: str, given: object) -> str:
    ended = subprocess.run(  # noqa: S603 -- our own command
        [sys.executable, "-c", program],
        cwd=folder,
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.process
def test_the_documented_program_keeps_a_jwt_and_replaces_it_once(backend, tmp_path):
    (tmp_path / "tokens.py").write_text(files(DOCUMENT)["tokens.py"])
    client = backend.make()
    given = {
        **{name: client[name] for name in ("client_id", "client_secret")},
        "endpoint": backend.token_endpoint,
        "revoke": f"{backend.origin}/oauth2/revoke",
        "api": f"{backend.origin}/api/v1/token/self",
        "unknown": f"{backend.origin}/api/v1/members",
    }
    statuses, asked = json.loads(run(tmp_path, CONSUMER, given))
    new, call = "POST /oauth2/token", "GET /api/v1/token/self"
    assert statuses == [200, 200, 200, 200, 403]
    assert asked == [
        *(new, call, call),
        *("POST /oauth2/revoke", call, new, call),
        *(new, call),
        "GET /api/v1/members",
    ]


@pytest.mark.process
def test_the_documented_program_without_a_secret_gets_a_jwt(backend, tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "private.pem").write_bytes(private)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    client = backend.make(public_key=public)
    program = files(DOCUMENT)["without_secret.py"]
    for documented, actual in (
        ("https://tokens.example.com/oauth2/token", backend.token_endpoint),
        ("acorn_production_1cH5XT0bnLpZ", client["client_id"]),
    ):
        assert documented in program
        program = program.replace(documented, actual)
    access = run(tmp_path, f"{program}\nprint(granted['access_token'])", None).strip()
    assert claims_of(access)["client_id"] == client["client_id"]


def test_the_two_documents_lead_to_each_other():
    assert "](consumers.md" in text("resource-servers.md")
    assert "](resource-servers.md" in text("consumers.md")
