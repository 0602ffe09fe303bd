"""RFC 7009 (revocation) and RFC 7662 (introspection) sentence by sentence: each that binds us is held by one check."""

from types import SimpleNamespace

import pytest
from django.db import OperationalError, connection

from tests.answers import CHALLENGES, INACTIVE, SCOPE
from tests.cast import GUARD, basic, bearer, claims_of, guarding, jwt_of

FORM = "application/x-www-form-urlencoded"
SENTENCES = []


def says(section, sentence):
    """Makes a row of a function that takes the wire (below)."""

    def decorate(check):
        SENTENCES.append(pytest.param(check, id=f"{section}: {sentence}"))
        return check

    return decorate


@pytest.fixture
def wire(world, machine):
    acme = world.acme
    client = acme.issue("admin", kind="client_credentials", name="Client", roles=["viewer"])
    return SimpleNamespace(
        world=world,
        machine=machine,
        client=client,
        text=jwt_of(machine, client),
        opaque=acme.issue("admin", name="Opaque").plaintext,
        guard=guarding(machine, acme.issue_for_environment(**GUARD)),
        own=basic(client.token.client_id, client.plaintext),
    )


def post(wire, path, form, headers=None):
    data = "&".join(f"{name}={value}" for name, value in form.items())
    return wire.machine.post(f"/oauth2/{path}", data, content_type=FORM, headers=headers)


def works(wire, token):
    return wire.machine.get("/api/v1/token/self", headers=bearer(token)).status_code == 200


def error(answer):
    return answer.status_code, answer.json()["error"]


@says("RFC 7009 2", "The client requests the revocation of a token by making an HTTP POST request")
def _(wire):
    answer = wire.machine.get("/oauth2/revoke", {"token": wire.opaque})
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert works(wire, wire.opaque)


@says("RFC 7009 2.1", 'parameters using the "application/x-www-form-urlencoded" format in the HTTP request entity-body')
def _(wire):
    as_json = wire.machine.post("/oauth2/revoke", {"token": wire.opaque}, content_type="application/json")
    in_address = wire.machine.post(f"/oauth2/revoke?token={wire.opaque}", "a=b", content_type=FORM)
    assert error(as_json) == error(in_address) == (400, "invalid_request")
    assert works(wire, wire.opaque)


@says("RFC 7009 2.1", "token REQUIRED")
def _(wire):
    assert error(post(wire, "revoke", {"a": "b"}, wire.own)) == (400, "invalid_request")


@says("RFC 7009 2.1", "If the server is unable to locate the token using the given hint, it MUST extend its search")
def _(wire):
    for token, headers in ((wire.text, wire.own), (wire.opaque, {})):
        assert post(wire, "revoke", {"token": token, "token_type_hint": "refresh_token"}, headers).status_code == 200
        assert not works(wire, token)


@says("RFC 7009 2.1", "The client also includes its authentication credentials as in section 2.3 of RFC 6749")
def _(wire):
    assert error(post(wire, "revoke", {"token": wire.text})) == (400, "invalid_client")
    assert works(wire, wire.text)


@says("RFC 7009 2.1", "The authorization server first validates the client credentials")
def _(wire):
    wrong = basic(wire.client.token.client_id, "wrong")
    for token in (wire.text, wire.opaque, "nonsense"):
        assert error(post(wire, "revoke", {"token": token}, wrong)) == (401, "invalid_client")
    assert works(wire, wire.text)
    assert works(wire, wire.opaque)


@says("RFC 7009 2.1", "and then verifies whether the token was issued to the client making the revocation request")
def _(wire):
    """What is somebody else's is unknown to it, and answered as section 2.2 has an invalid token answered."""
    other = wire.world.acme.issue("admin", kind="client_credentials", name="Other")
    headers = basic(other.token.client_id, other.plaintext)
    for token in (wire.text, wire.opaque):
        assert post(wire, "revoke", {"token": token}, headers).content == b"{}"
        assert works(wire, token)


@says("RFC 7009 2.1", "The invalidation takes place immediately, and the token cannot be used again")
def _(wire):
    for token, headers in ((wire.text, wire.own), (wire.opaque, {})):
        assert post(wire, "revoke", {"token": token}, headers).status_code == 200
        assert not works(wire, token)
        assert wire.guard.ask(token).content == INACTIVE


@says("RFC 7009 2.2", "HTTP status code 200 if the token has been revoked or if the client submitted an invalid token")
def _(wire):
    for token in (wire.text, wire.text, "nonsense", wire.client.plaintext):
        assert post(wire, "revoke", {"token": token}, wire.own).status_code == 200
    for token in (wire.opaque, wire.opaque, "nonsense"):
        assert post(wire, "revoke", {"token": token}).status_code == 200


@says("RFC 7009 2.2", "all necessary information is conveyed in the response code")
def _(wire):
    answers = [post(wire, "revoke", {"token": token}, wire.own) for token in (wire.text, "nonsense")]
    assert {answer.content for answer in answers} == {b"{}"}


@says("RFC 7009 2.2", "An invalid token type hint value is ignored and does not influence the revocation response")
def _(wire):
    answer = post(wire, "revoke", {"token": wire.text, "token_type_hint": "cake"}, wire.own)
    assert (answer.status_code, answer.content) == (200, b"{}")
    assert not works(wire, wire.text)


@says("RFC 7009 2.2.1", "The error presentation conforms to the definition in section 5.2 of RFC 6749")
def _(wire):
    answer = post(wire, "revoke", {"token": wire.text}, basic("nobody", "wrong"))
    assert answer.json() == {"error": "invalid_client", "error_description": "Unknown client or wrong secret."}
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="token endpoint", charset="UTF-8"'
    assert answer.headers["Content-Type"] == "application/json"
    assert (answer.headers["Cache-Control"], answer.headers["Pragma"]) == ("no-store", "no-cache")


@says("RFC 7009 2.2.1", "unsupported_token_type is for a server that does not support the type: every type is revoked")
def _(wire):
    for token, headers in ((wire.text, wire.own), (wire.opaque, wire.own), (wire.client.plaintext, wire.own)):
        assert post(wire, "revoke", {"token": token}, headers).json() == {}


@says("RFC 7009 2.2.1", "If the server responds with 503, the client must assume the token still exists; Retry-After")
def _(wire):
    for token, headers in ((wire.text, wire.own), (wire.opaque, {})):
        with connection.execute_wrapper(_fail):
            answer = post(wire, "revoke", {"token": token}, headers)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert works(wire, token)


def _fail(*_):
    raise OperationalError("server closed the connection unexpectedly")


@says("RFC 7662 2.1", "calls the introspection endpoint using an HTTP POST request")
def _(wire):
    answer = wire.machine.get("/oauth2/introspect", {"token": wire.opaque}, headers=wire.guard.headers)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


@says("RFC 7662 2.1", 'with parameters sent as "application/x-www-form-urlencoded" data')
def _(wire):
    given = {"headers": wire.guard.headers, "content_type": "application/json"}
    assert error(wire.machine.post("/oauth2/introspect", {"token": wire.opaque}, **given)) == (400, "invalid_request")
    assert wire.guard.ask(wire.opaque).json()["active"] is True


@says("RFC 7662 2.1", "token REQUIRED")
def _(wire):
    assert error(post(wire, "introspect", {"a": "b"}, wire.guard.headers)) == (400, "invalid_request")


@says("RFC 7662 2.1", "If the server is unable to locate the token using the given hint, it MUST extend its search")
def _(wire):
    for token in (wire.text, wire.opaque):
        assert wire.guard.ask(token, token_type_hint="refresh_token").json()["active"] is True


@says("RFC 7662 2.1", "MAY accept other parameters: the IP address of the client accessing the protected resource")
def _(wire):
    token = wire.world.acme.issue("admin", name="Listed", ip_allowlist=("203.0.113.0/24",)).plaintext
    assert wire.guard.ask(token, client_ip="203.0.113.7").json()["active"] is True
    assert wire.guard.ask(token, client_ip="198.51.100.7").content == INACTIVE


@says("RFC 7662 2.1", "the endpoint MUST also require some form of authorization to access this endpoint")
def _(wire):
    assert error(post(wire, "introspect", {"token": wire.opaque})) == (401, "invalid_client")


@says("RFC 7662 2.1", "such as client authentication, or a separate access token such as a bearer token")
def _(wire):
    told = wire.guard.ask(wire.opaque)
    by_token = post(wire, "introspect", {"token": wire.opaque}, bearer(jwt_of(wire.machine, wire.guard.issued)))
    assert by_token.content == told.content != INACTIVE


@says("RFC 7662 2.2", 'The server responds with a JSON object in "application/json" format')
def _(wire):
    for token in (wire.text, wire.opaque, "nonsense"):
        answer = wire.guard.ask(token)
        assert (answer.headers["Content-Type"], type(answer.json())) == ("application/json", dict)


@says("RFC 7662 2.2", "active REQUIRED, boolean")
def _(wire):
    told = [wire.guard.ask(token).json()["active"] for token in (wire.text, wire.opaque, "nonsense")]
    assert told == [True, True, False]


@says("RFC 7662 2.2", "scope: a JSON string containing a space-separated list of scopes")
def _(wire):
    assert wire.guard.ask(wire.text).json()["scope"] == claims_of(wire.text)["scope"]


@says("RFC 7662 2.2", "token_type as defined in section 5.1 of OAuth 2.0")
def _(wire):
    assert {wire.guard.ask(token).json()["token_type"] for token in (wire.text, wire.opaque)} == {"Bearer"}


@says("RFC 7662 2.2", "exp, iat, nbf: integer timestamps")
def _(wire):
    told = wire.guard.ask(wire.opaque).json()
    assert (type(told["exp"]), type(told["iat"])) == (int, int)


@says("RFC 7662 2.2", "exp, iat, sub, aud, iss, jti, client_id: as defined in JWT")
def _(wire):
    told, claims = wire.guard.ask(wire.text).json(), claims_of(wire.text)
    for name in ("exp", "iat", "sub", "iss", "jti", "client_id"):
        assert told[name] == claims[name]
    assert claims["aud"] in (told["aud"], [told["aud"]])


@says("RFC 7662 2.2", "Implementations MAY extend this structure with their own response names")
def _(wire):
    told = wire.guard.ask(wire.text).json()
    assert set(told) == {
        "active", "scope", "client_id", "token_type", "exp", "iat", "sub", "aud", "iss", "jti",
        "tenant", "tenant_external_id", "env", "roles",
    }  # fmt: skip


@says("RFC 7662 2.2", "MAY respond differently to different protected resources making the same request")
def _(wire):
    foreign = guarding(wire.machine, wire.world.acme_staging.issue_for_environment(**GUARD))
    assert foreign.ask(wire.text).content == INACTIVE != wire.guard.ask(wire.text).content


@says("RFC 7662 2.2", 'not active, unknown, or not allowed to introspect: the server MUST return "active" false')
def _(wire):
    gone = wire.world.acme.issue("admin", name="Gone").plaintext
    assert post(wire, "revoke", {"token": gone}).status_code == 200
    strange = [gone, "nonsense", wire.world.acme_staging.issue("admin").plaintext]
    assert {(wire.guard.ask(token).status_code, wire.guard.ask(token).content) for token in strange} == {
        (200, INACTIVE)
    }


@says("RFC 7662 2.2", "SHOULD NOT include any additional information about an inactive token")
def _(wire):
    issued = wire.world.acme.issue("admin", name="Off")
    assert wire.world.acme.api("admin", "POST", f"tokens/{issued.token.token_id}/disable").status_code == 200
    assert wire.guard.ask(issued.plaintext).json() == {"active": False}


@says("RFC 7662 2.3", "If its client credentials are invalid: HTTP 401 as in section 5.2 of RFC 6749")
def _(wire):
    wrong = {"client_id": wire.guard.token.client_id, "client_secret": "wrong"}
    by_header = post(wire, "introspect", {"token": wire.text}, basic(wrong["client_id"], "wrong"))
    in_body = post(wire, "introspect", {"token": wire.text, **wrong})
    for answer in (by_header, in_body):
        assert error(answer) == (401, "invalid_client")
        assert answer.headers["WWW-Authenticate"] == CHALLENGES


@says("RFC 7662 2.3", "If its bearer token is invalid: HTTP 401 as in section 3 of RFC 6750")
def _(wire):
    answer = post(wire, "introspect", {"token": wire.text}, bearer("never"))
    assert error(answer) == (401, "invalid_token")
    assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="oauth2", error="invalid_token", ')


@says(
    "RFC 7662 2.3", "If its bearer token has not sufficient privileges: as in section 3 of RFC 6750, which has it 403"
)
def _(wire):
    answer = post(wire, "introspect", {"token": wire.text}, bearer(wire.opaque))
    assert (error(answer), answer.headers["WWW-Authenticate"]) == ((403, "insufficient_scope"), SCOPE)


@says("RFC 7662 2.3", "a properly formed and authorized query for an invalid token is not considered an error response")
def _(wire):
    assert wire.guard.ask("nonsense").status_code == 200


@says("RFC 7662 4", "If the token has been signed, the authorization server MUST validate the signature")
def _(wire):
    head, body, signature = wire.text.split(".")
    assert wire.guard.ask(f"{head}.{body}.{signature[::-1]}").content == INACTIVE


@pytest.mark.parametrize("check", SENTENCES)
def test_every_sentence_is_held(wire, check):
    check(wire)
