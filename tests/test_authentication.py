"""R8 at the API: one authenticator. A bad credential is 401, never the next way in and never nobody."""

import json
from base64 import b64encode

import pytest
from django.test import Client

from apitokens.models import ApiToken, Secret, TokenType
from audit.models import AuditEvent
from tests.answers import UNKNOWN_TOKEN, unauthorized
from tests.cast import basic, bearer, everything_stored, grant, iso, jwt_of

EXCHANGE = "This is a client secret: exchange it, with its client id, for a token at POST /oauth2/token."
SCHEMES = "Use the Bearer or the Basic scheme."
ELSEWHERE = "This client can't be used directly: exchange it at POST /oauth2/token."
SECRET_FOR_ID = "This secret came where the client id belongs: Basic takes both, an access token goes as Bearer."
IN_ADDRESS = (
    "A secret was sent in the address, where logs and histories keep it. It was not accepted: replace it, and send the "
    "new one in the Authorization header."
)
NOT_FROM_HERE = "The token is right but does not work. It may not be used from this address."


def _other_checksum(text):
    return text[:-1] + ("0" if text[-1] != "0" else "1")


BAD = {
    "nonsense": (lambda at, cs: "Bearer nonsense", UNKNOWN_TOKEN),
    "a wrong checksum": (lambda at, cs: f"Bearer {_other_checksum(at)}", UNKNOWN_TOKEN),
    "truncated": (lambda at, cs: f"Bearer {at[:-1]}", UNKNOWN_TOKEN),
    "truncated to its id": (lambda at, cs: f"Bearer {at[: at.index('_at_') + 16]}", UNKNOWN_TOKEN),
    "extended": (lambda at, cs: f"Bearer {at}0", UNKNOWN_TOKEN),
    "in another case": (lambda at, cs: f"Bearer {at.swapcase()}", UNKNOWN_TOKEN),
    "no JWT of ours": (lambda at, cs: "Bearer a.b.c", UNKNOWN_TOKEN),
    "Bearer and nothing": (lambda at, cs: "Bearer", UNKNOWN_TOKEN),
    "Bearer and a blank": (lambda at, cs: "Bearer  ", UNKNOWN_TOKEN),
    "two tokens": (lambda at, cs: f"Bearer {at} {at}", UNKNOWN_TOKEN),
    "a client secret": (lambda at, cs: f"Bearer {cs}", EXCHANGE),
    "an empty header": (lambda at, cs: "", SCHEMES),
    "another scheme": (lambda at, cs: f"Token {at}", SCHEMES),
    "no scheme": (lambda at, cs: at, SCHEMES),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_credential_is_401_whoever_is_signed_in_beside_it(acme, machine, name):
    make, detail = BAD[name]
    at = acme.issue("admin", name="At", roles=["admin"]).plaintext
    cs = acme.issue("admin", name="Cs", kind="client_credentials", roles=["admin"]).plaintext
    headers = {"Authorization": make(at, cs)}
    path = f"/api/v1/tokens?tenant={acme.tenant.id}"
    unauthorized(machine.get(path, headers=headers), detail)
    signed_in = acme.browser("admin")
    assert signed_in.get(path).status_code == 200
    unauthorized(signed_in.get(path, headers=headers), detail)
    traces = ("django_session", "apitokens_refusalcount")
    before = everything_stored(but=traces)
    unauthorized(signed_in.post(path, headers=headers), detail)
    assert everything_stored(but=traces) == before


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_right_credential_is_who_it_says_whoever_is_signed_in_beside_it(acme, scheme):
    issued = acme.issue("admin", roles=["viewer"])
    answer = acme.browser("owner").get("/api/v1/token/self", headers={"Authorization": f"{scheme} {issued.plaintext}"})
    assert answer.json() == {
        "id": issued.token.token_id,
        "client_id": None,
        "name": "CI",
        "owner": "tenant",
        "kind": "access_token",
        "environment": acme.environment.slug,
        "tenant": str(acme.tenant.id),
        "tenant_external_id": acme.tenant.external_id,
        "user": None,
        "roles": ["viewer"],
        "scope": " ".join(issued.token.granted),
        "expires_at": iso(issued.token.expires_at),
    }


def test_strangers_and_what_is_gone_are_answered_alike(world, machine):
    one, two, gone = (world.acme.issue("admin", name=name) for name in ("One", "Two", "Gone"))
    assert world.acme.api("admin", "DELETE", f"tokens/{gone.token.token_id}").status_code == 204
    # Another secret, well-formed, under the id of one that lives; and of one whose secret was replaced.
    Secret.objects.filter(token=two.token).update(digest=Secret.objects.get(token=one.token).digest)
    answers = [machine.get("/api/v1/token/self", headers=bearer(each.plaintext)) for each in (gone, two)]
    answers.append(machine.get("/api/v1/token/self", headers=bearer("never")))
    assert {(answer.status_code, answer.content, answer.headers["WWW-Authenticate"]) for answer in answers} == {
        (401, answers[0].content, f'Bearer realm="api", error="invalid_token", error_description="{UNKNOWN_TOKEN}"')
    }
    assert machine.get("/api/v1/token/self", headers=bearer(one.plaintext)).status_code == 200


def _raw_basic(data):
    return {"Authorization": f"Basic {b64encode(data).decode()}"}


@pytest.mark.parametrize("kind", ["access_token", "client_credentials"])
def test_a_secret_where_the_client_id_belongs_is_told(acme, machine, kind):
    sent = basic(acme.issue("admin", kind=kind).plaintext, "")
    unauthorized(machine.get("/api/v1/token/self", headers=sent), SECRET_FOR_ID, "Basic")
    for path in ("/oauth2/token", "/oauth2/introspect"):
        form = "grant_type=client_credentials&token=x"
        answer = machine.post(path, form, content_type="application/x-www-form-urlencoded", headers=sent)
        assert (answer.status_code, answer.json()["error_description"]) == (401, SECRET_FOR_ID)


def test_a_client_secret_as_bearer_is_told_at_introspection_too(acme, machine):
    issued = acme.issue_for_environment(kind="client_credentials", roles=[], permissions=["tokens:introspect"])
    sent = {"content_type": "application/x-www-form-urlencoded", "headers": bearer(issued.plaintext)}
    answer = machine.post("/oauth2/introspect", "token=x", **sent)
    assert (answer.status_code, answer.json()) == (
        401,
        {
            "error": "invalid_token",
            "error_description": "This is a client secret: send it as HTTP Basic with its client id.",
        },
    )
    assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="oauth2", error="invalid_token"')


@pytest.mark.parametrize("accepts", [False, True])
def test_basic_straight_on_the_api_is_for_types_that_accept_it(acme, machine, accepts):
    issued = acme.issue("admin", kind="client_credentials", roles=["admin"])
    TokenType.objects.filter(pk=issued.token.token_type_id).update(accepts_basic=accepts)
    right, wrong = (basic(issued.token.client_id, secret) for secret in (issued.plaintext, "wrong"))
    unauthorized(machine.get("/api/v1/token/self", headers=wrong), UNKNOWN_TOKEN, "Basic")
    answer = machine.get("/api/v1/token/self", headers=right)
    if accepts:
        assert answer.json()["client_id"] == issued.token.client_id
    else:
        unauthorized(answer, ELSEWHERE, "Basic")
        unauthorized(acme.browser("admin").get("/api/v1/token/self", headers=right), ELSEWHERE, "Basic")


def test_by_default_basic_is_for_the_vendors_clients(acme, machine):
    issued = acme.issue_for_environment(kind="client_credentials")
    headers = basic(issued.token.client_id, issued.plaintext)
    assert machine.get("/api/v1/token/self", headers=headers).json()["owner"] == "environment"


@pytest.mark.parametrize(
    ("sent", "detail"),
    [
        (b"nocolon", "The Basic credentials have no colon between id and secret."),
        (b"\xff\xfe:x", "The Basic credentials are not base64 of id:secret."),
        (b":", UNKNOWN_TOKEN),
        (b"never:never", UNKNOWN_TOKEN),
    ],
)
def test_basic_that_cannot_be_read_is_401(acme, machine, sent, detail):
    unauthorized(machine.get("/api/v1/token/self", headers=_raw_basic(sent)), detail, "Basic")
    unauthorized(acme.browser("admin").get("/api/v1/token/self", headers=_raw_basic(sent)), detail, "Basic")


UNSAFE = [
    ("POST", "tokens?tenant={1}", {"name": "New", "kind": "access_token", "roles": ["viewer"]}, 201),
    ("PATCH", "tokens/{0}", {"name": "Renamed"}, 200),
    ("POST", "tokens/{0}/disable", None, 200),
    ("POST", "tokens/{0}/enable", None, 200),
    ("POST", "tokens/{0}/rotate", None, 201),
    ("DELETE", "tokens/{0}", None, 204),
]


@pytest.mark.parametrize(("method", "path", "sent", "status"), UNSAFE)
def test_a_session_changes_nothing_without_its_csrf_token(acme, method, path, sent, status):
    path = path.format(acme.issue("admin").token.token_id, acme.tenant.id)
    browser = acme.browser("admin")
    acme.form(browser)
    before = everything_stored(but=("django_session",))
    for headers in ({}, {"X-CSRFToken": "x" * 32}):
        data = json.dumps(sent or {})
        answer = browser.generic(method, f"/api/v1/{path}", data, "application/json", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
        assert answer.json()["detail"].startswith("CSRF Failed: CSRF token ")
    assert everything_stored(but=("django_session",)) == before
    assert acme.api("admin", method, path, sent).status_code == status


def test_a_token_needs_no_csrf_token(acme, machine):
    issued = acme.issue("admin", roles=["admin"])
    assert (
        machine.delete(f"/api/v1/tokens/{issued.token.token_id}", headers=bearer(issued.plaintext)).status_code == 204
    )


@pytest.mark.parametrize("kind", ["access_token", "client_credentials"])
def test_a_secret_in_the_address_is_refused(acme, machine, kind):
    issued = acme.issue("admin", kind=kind)
    good = acme.issue("admin", name="Good", roles=["admin"]).plaintext
    noted = ("django_session", "accounts_user", "audit_auditevent", "audit_person")
    before = everything_stored(but=noted)
    for parameter in ("access_token", "x"):
        path = f"/api/v1/tokens?tenant={acme.tenant.id}&{parameter}=1&{parameter}="
        for client, headers in ((machine, {}), (machine, bearer(good)), (acme.browser("admin"), {})):
            unauthorized(client.get(path + issued.plaintext, headers=headers), IN_ADDRESS)
            unauthorized(client.delete(path + issued.plaintext, headers=headers), IN_ADDRESS)
        assert machine.get(path + issued.plaintext[:-1], headers=bearer(good)).status_code == 200
    assert everything_stored(but=noted) == before
    events = AuditEvent.objects.filter(verb="apitoken.secret_in_address", target_id=issued.token.id)
    assert events.count() == 12
    assert {event.reason for event in events} == {"secret_in_address"}


NETWORKS = ("203.0.113.0/24", "2001:db8::/32")
FROM = [
    # proxies, peer, X-Forwarded-For, allowed
    pytest.param(0, "203.0.113.5", None, True, id="v4-inside"),
    pytest.param(0, "203.0.114.5", None, False, id="v4-outside"),
    pytest.param(0, "2001:db8::5", None, True, id="v6-inside"),
    pytest.param(0, "2001:db9::5", None, False, id="v6-outside"),
    pytest.param(0, "::ffff:203.0.113.5", None, True, id="mapped-inside"),
    pytest.param(0, "::ffff:203.0.114.5", None, False, id="mapped-outside"),
    pytest.param(0, "", None, False, id="no-address"),
    pytest.param(0, "unix:", None, False, id="no-ip-address"),
    pytest.param(0, "198.51.100.1", "203.0.113.5", False, id="header-not-believed"),
    pytest.param(0, "203.0.113.5", "198.51.100.1", True, id="header-not-looked-at"),
    pytest.param(1, "10.0.0.1", "203.0.113.5", True, id="one-proxy"),
    pytest.param(1, "10.0.0.1", "203.0.113.5, 198.51.100.1", False, id="one-proxy-forged-left"),
    pytest.param(1, "10.0.0.1", "198.51.100.1, 203.0.113.5", True, id="one-proxy-rightmost"),
    pytest.param(1, "203.0.113.5", None, False, id="one-proxy-no-header"),
    pytest.param(1, "203.0.113.5", "", False, id="one-proxy-empty-header"),
    pytest.param(1, "203.0.113.5", "unknown", False, id="one-proxy-unreadable"),
    pytest.param(1, "10.0.0.1", "203.0.113.5:443", False, id="one-proxy-with-port"),
    pytest.param(2, "10.0.0.1", "203.0.113.5, 10.0.0.2", True, id="two-proxies"),
    pytest.param(2, "10.0.0.1", "203.0.113.5", False, id="two-proxies-one-entry"),
    pytest.param(2, "10.0.0.1", "203.0.113.5, 198.51.100.1, 10.0.0.2", False, id="two-proxies-forged-left"),
]


@pytest.mark.parametrize(("proxies", "peer", "forwarded", "allowed"), FROM)
def test_an_allowlist_admits_by_the_address_that_can_be_believed(settings, acme, proxies, peer, forwarded, allowed):
    opaque = acme.issue("admin", name="Opaque", ip_allowlist=NETWORKS)
    client = acme.issue("admin", name="Client", kind="client_credentials", ip_allowlist=NETWORKS)
    jwt = jwt_of(Client(REMOTE_ADDR="203.0.113.1"), client)
    free = acme.issue("admin", name="Free")
    settings.TRUSTED_PROXIES = proxies
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    machine = Client(REMOTE_ADDR=peer, headers=headers)
    for token in (opaque.plaintext, jwt):
        answer = machine.get("/api/v1/token/self", headers=bearer(token))
        if allowed:
            assert answer.status_code == 200
        else:
            unauthorized(answer, NOT_FROM_HERE)
    assert grant(machine, client).status_code == (200 if allowed else 400)
    assert machine.get("/api/v1/token/self", headers=bearer(free.plaintext)).status_code == 200


def test_a_missing_pepper_fails_closed_and_says_so_in_the_log(settings, acme, machine, caplog):
    issued = acme.issue("admin")
    secret = Secret.objects.get(token=issued.token)
    ours = settings.PEPPERS
    settings.PEPPERS = {max(ours) + 1: b"another pepper of 32 bytes......"}
    unauthorized(machine.get("/api/v1/token/self", headers=bearer(issued.plaintext)), UNKNOWN_TOKEN)
    line = f"refused: pepper {secret.pepper_id} of secret {secret.id} is not configured"
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [line]
    settings.PEPPERS = {**ours, **settings.PEPPERS}
    assert machine.get("/api/v1/token/self", headers=bearer(issued.plaintext)).status_code == 200
    newer = acme.issue("admin", name="Newer")
    assert Secret.objects.get(token=newer.token).pepper_id == max(ours) + 1
    assert ApiToken.objects.count() == 2
