"""What the RFCs say of the endpoints, sentence by sentence: each row is one, named by its section.

The rows are about the wire as a whole; what lies behind each, in all its variants, is in the files about the endpoints.
"""

import json
import re
from datetime import timedelta
from types import SimpleNamespace
from urllib.parse import urlencode

import jwt
import pytest
import time_machine
from django.conf import settings
from django.utils import timezone

from apitokens.models import ApiToken
from tenants.models import RolePermission
from tests.cast import basic, bearer, claims_of
from tests.test_jwt_attacks import forge, sign  # noqa: F401 -- a fixture

FORM = "application/x-www-form-urlencoded"
GRANT = {"grant_type": "client_credentials"}
SELF = "/api/v1/token/self"
# RFC 6749 section 5.2 and RFC 6750 section 3.
SAYABLE = re.compile(r"[\x20-\x21\x23-\x5B\x5D-\x7E]*")
RESPONSE = {"access_token", "token_type", "expires_in", "scope"}
SENTENCES = []


def says(section, words):
    """Makes a row of a function that takes the wire (below)."""

    def decorate(check):
        SENTENCES.append(pytest.param(check, id=f"{section}: {words}"))
        return check

    return decorate


@pytest.fixture
def wire(world, machine, request):
    """A client of Acme's and its right request, from which each sentence is a step."""
    issued = world.acme.issue("admin", name="Wire", kind="client_credentials", roles=["viewer"])
    right = basic(issued.token.client_id, issued.plaintext)

    def ask(form=None, headers=None, *, content_type=FORM, query="", verb="POST"):
        data = form if isinstance(form, str | bytes) else urlencode(GRANT if form is None else form)
        headers = right if headers is None else headers
        return machine.generic(verb, f"/oauth2/token{query}", data, content_type=content_type, headers=headers)

    def call(token=None, *, query="", **more):
        return machine.get(f"{SELF}{query}", headers=bearer(token) if token else {}, **more)

    return SimpleNamespace(
        world=world, acme=world.acme, machine=machine, issued=issued, id=issued.token.client_id,
        secret=issued.plaintext, ask=ask, call=call, forge=lambda: request.getfixturevalue("forge"),
    )  # fmt: skip


def error_of(answer):
    return answer.status_code, answer.json()["error"]


def claims_in(answer):
    return claims_of(answer.json()["access_token"])


def in_body(wire, **more):
    return {**GRANT, "client_id": wire.id, "client_secret": wire.secret, **more}


def challenge_of(answer):
    """The scheme and the parameters of the one challenge; a parameter twice is an error."""
    scheme, _, text = answer.headers["WWW-Authenticate"].partition(" ")
    pairs = re.findall(r'(\w+)="([^"]*)"', text)
    assert len(dict(pairs)) == len(pairs)
    return scheme, dict(pairs)


# RFC 6749 section 3.2 (token endpoint), with those of section 2.3 that are about it


@says("RFC 6749 2.3", "the client MUST NOT use more than one authentication method in each request")
def _(wire):
    assert error_of(wire.ask(in_body(wire))) == (400, "invalid_request")


@says("RFC 6749 2.3.1", "the server MUST support HTTP Basic")
def _(wire):
    assert wire.ask().status_code == 200


@says("RFC 6749 2.3.1", "the client id and secret are form-encoded before they become a Basic credential")
def _(wire):
    encoded = "".join(f"%{ord(letter):02X}" for letter in wire.id)
    assert wire.ask(headers=basic(encoded, wire.secret)).status_code == 200


@says("RFC 6749 2.3.1", "the server MAY support the credentials in the body")
def _(wire):
    assert wire.ask(in_body(wire), {}).status_code == 200


@says("RFC 6749 2.3.1", "credentials in the body MUST NOT be included in the request URI")
def _(wire):
    sent = urlencode({"client_id": wire.id, "client_secret": wire.secret})
    assert error_of(wire.ask(headers={}, query=f"?{sent}")) == (400, "invalid_request")


@says("RFC 6749 2.3.1", "the server MUST protect the endpoint against brute force attacks")
def _(wire):
    statuses = [wire.ask(headers=basic(wire.id, f"wrong {n}")).status_code for n in range(60)]
    assert (statuses[0], statuses[-1]) == (401, 429)


@says("RFC 6749 3.2", "the endpoint URI MUST NOT include a fragment")
def _(wire):
    document = wire.machine.get(f"/e/{wire.acme.environment.slug}/.well-known/oauth-authorization-server").json()
    assert document["token_endpoint"] == f"{settings.ORIGIN}/oauth2/token"


@says("RFC 6749 3.2", "the client MUST use POST")
def _(wire):
    for verb in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS"):
        answer = wire.ask(verb=verb)
        assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


@says("RFC 6749 3.2", "parameters without a value MUST be treated as if they were omitted")
def _(wire):
    given = wire.ask(in_body(wire, scope="", resource="", tenant="", client_assertion="", client_assertion_type=""), {})
    assert given.json()["scope"] == wire.ask().json()["scope"]
    assert error_of(wire.ask({"grant_type": ""})) == error_of(wire.ask({})) == (400, "invalid_request")


@says("RFC 6749 3.2", "the server MUST ignore unrecognized request parameters")
def _(wire):
    assert wire.ask({**GRANT, "colour": "red", "scopes": "x", "client": "x", "user": "x"}).status_code == 200


@says("RFC 6749 3.2", "request parameters MUST NOT be included more than once")
def _(wire):
    for name, value in (*GRANT.items(), ("scope", "reports:read"), ("client_id", wire.id), ("colour", "red")):
        sent = urlencode([*GRANT.items(), (name, value), (name, value)])
        assert error_of(wire.ask(sent)) == (400, "invalid_request")


@says("RFC 6749 3.2", "response parameters MUST NOT be included more than once")
def _(wire):
    for answer in (wire.ask(), wire.ask({})):
        pairs = json.loads(answer.content, object_pairs_hook=list)
        assert len(dict(pairs)) == len(pairs)


@says("RFC 6749 3.2.1", "confidential clients MUST authenticate")
def _(wire):
    assert error_of(wire.ask({**GRANT, "client_id": wire.id}, {})) == (400, "invalid_client")


@says("RFC 6749 3.3", "the scope is a list of space-delimited, case-sensitive strings, in any order")
def _(wire):
    both = wire.ask({**GRANT, "scope": "reports:read apitokens:read"}).json()["scope"]
    assert both == wire.ask({**GRANT, "scope": "apitokens:read reports:read"}).json()["scope"]
    assert error_of(wire.ask({**GRANT, "scope": "Reports:read"})) == (400, "invalid_scope")


@says("RFC 6749 3.3", "without a scope the server MUST use a default or fail")
def _(wire):
    assert "reports:read" in wire.ask().json()["scope"].split()


# RFC 6749 section 5.1 (successful response)


@says("RFC 6749 5.1", "access_token and token_type are REQUIRED, expires_in RECOMMENDED")
def _(wire):
    body = wire.ask().json()
    assert body.keys() == RESPONSE
    assert (body["token_type"].lower(), body["expires_in"]) == ("bearer", 3600)


@says("RFC 6749 5.1", "the scope is REQUIRED where it differs from what was asked")
def _(wire):
    assert wire.ask({**GRANT, "scope": "reports:read"}).json()["scope"] == "reports:read"
    assert set(wire.ask().json()["scope"].split()) == set(claims_in(wire.ask())["scope"].split())


@says("RFC 6749 5.1 and 4.4.3", "a refresh token SHOULD NOT be included")
def _(wire):
    assert "refresh_token" not in wire.ask().json()


@says("RFC 6749 5.1", "200 with application/json")
def _(wire):
    answer = wire.ask()
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")


@says("RFC 6749 5.1", "parameters at the highest level, text as strings and numbers as numbers")
def _(wire):
    body = wire.ask().json()
    assert {name: type(value) for name, value in body.items()} == {
        "access_token": str, "token_type": str, "scope": str, "expires_in": int,
    }  # fmt: skip


@says("RFC 6749 5.1", "Cache-Control no-store and Pragma no-cache MUST be in any response with tokens or secrets")
def _(wire):
    for answer in (wire.ask(), wire.ask({}), wire.ask(headers={}), wire.ask(verb="GET"), wire.ask("{}")):
        assert (answer.headers["Cache-Control"], answer.headers["Pragma"]) == ("no-store", "no-cache")


# RFC 6749 section 5.2 (error response)


@says("RFC 6749 5.2", "400 unless specified otherwise")
def _(wire):
    for form in ({}, {"grant_type": "x"}, {**GRANT, "scope": "x"}, {**GRANT, "resource": "x"}):
        assert wire.ask(form).status_code == 400


@says("RFC 6749 5.2", "the error is a single code, REQUIRED")
def _(wire):
    for form in ({}, {"grant_type": "x"}, {**GRANT, "scope": "x"}, {**GRANT, "resource": "x"}):
        assert re.fullmatch(r"[a-z_]+", wire.ask(form).json()["error"])


@says("RFC 6749 5.2", "invalid_request: a required parameter is missing")
def _(wire):
    assert error_of(wire.ask({"scope": "reports:read"})) == (400, "invalid_request")


@says("RFC 6749 5.2", "invalid_request: an unsupported parameter value, other than the grant type")
def _(wire):
    assert error_of(wire.ask({**GRANT, "tenant": "nobody"})) == (400, "invalid_request")


@says("RFC 6749 5.2", "invalid_request: a parameter is repeated")
def _(wire):
    assert error_of(wire.ask(f"{urlencode(GRANT)}&scope=a&scope=a")) == (400, "invalid_request")


@says("RFC 6749 5.2", "invalid_request: multiple credentials")
def _(wire):
    sent = {"client_assertion": "a.b.c", "client_assertion_type": "x", "client_id": wire.id, "client_secret": "x"}
    assert error_of(wire.ask({**GRANT, **sent}, {})) == (400, "invalid_request")


@says("RFC 6749 5.2", "invalid_request: more than one mechanism to authenticate the client")
def _(wire):
    assert error_of(wire.ask(in_body(wire))) == (400, "invalid_request")


@says("RFC 6749 5.2", "invalid_request: otherwise malformed")
def _(wire):
    assert error_of(wire.ask(json.dumps(GRANT), content_type="application/json")) == (400, "invalid_request")
    assert error_of(wire.ask(b"grant_type=\xff")) == (400, "invalid_request")


@says("RFC 6749 5.2", "invalid_client: unknown client")
def _(wire):
    assert error_of(wire.ask({**GRANT, "client_id": "nobody", "client_secret": wire.secret}, {})) == (
        400,
        "invalid_client",
    )


@says("RFC 6749 5.2", "invalid_client: no client authentication included")
def _(wire):
    assert error_of(wire.ask(headers={})) == (400, "invalid_client")


@says("RFC 6749 5.2", "invalid_client: unsupported authentication method")
def _(wire):
    assert error_of(wire.ask(headers=bearer(wire.secret))) == (401, "invalid_client")
    sent = {"client_assertion": "a.b.c", "client_assertion_type": "urn:x:y"}
    assert error_of(wire.ask({**GRANT, **sent}, {})) == (400, "invalid_client")


@says("RFC 6749 5.2", "invalid_client by the header: 401 MUST have a challenge of the scheme that the client used")
def _(wire):
    answer = wire.ask(headers=basic(wire.id, "wrong"))
    assert error_of(answer) == (401, "invalid_client")
    assert challenge_of(answer) == ("Basic", {"realm": "token endpoint", "charset": "UTF-8"})


@says("RFC 6749 5.2", "invalid_grant: there is no grant, code or refresh token that could be one")
def _(wire):
    for other in ("authorization_code", "refresh_token", "password"):
        assert error_of(wire.ask({"grant_type": other, "code": "x"})) == (400, "unsupported_grant_type")


@says("RFC 6749 5.2", "unauthorized_client: the authenticated client may not use the grant")
def _(wire):
    ApiToken.objects.filter(pk=wire.issued.token.pk).update(disabled_at=timezone.now())
    assert error_of(wire.ask()) == (400, "unauthorized_client")


@says("RFC 6749 5.2", "unsupported_grant_type")
def _(wire):
    assert error_of(wire.ask({"grant_type": "urn:x:y"})) == (400, "unsupported_grant_type")


@says("RFC 6749 5.2", "invalid_scope: invalid, unknown, malformed or more than was granted")
def _(wire):
    for scope in ('"', "cakes:bake", " ", "reports:write"):
        assert error_of(wire.ask({**GRANT, "scope": scope})) == (400, "invalid_scope")


@says("RFC 6749 5.2", "error and error_description MUST NOT have characters outside %x20-21 / %x23-5B / %x5D-7E")
def _(wire):
    odd = 'é"\\\n\t\0'
    forms = [{**GRANT, name: f"urn:{odd}"} for name in ("scope", "resource", "tenant")]
    forms += [{"grant_type": odd}, urlencode([*GRANT.items(), (odd, "1"), (odd, "1")])]
    for form in forms:
        answer = wire.ask(form)
        assert answer.status_code == 400
        assert all(SAYABLE.fullmatch(value) for value in answer.json().values()), answer.json()


@says("RFC 6749 5.2", "application/json, parameters at the highest level")
def _(wire):
    for answer in (wire.ask({}), wire.ask(headers={}), wire.ask(headers=basic("x", "y")), wire.ask(verb="PUT")):
        assert answer.headers["Content-Type"] == "application/json"
        assert {type(value) for value in answer.json().values()} == {str}


# RFC 6750 section 2 (how the token is sent) and section 3 (the challenge)


@says("RFC 6750 2", "clients MUST NOT use more than one method to send the token")
def _(wire):
    token = wire.ask().json()["access_token"]
    answer = wire.call(token, query=f"?access_token={token}")
    assert (answer.status_code, challenge_of(answer)[1]["error"]) == (401, "invalid_token")


@says("RFC 6750 2.1", "resource servers MUST support the Authorization header")
def _(wire):
    assert wire.call(wire.ask().json()["access_token"]).status_code == 200


@says("RFC 6750 2.1 and RFC 7235 2.1", "the scheme is told without regard to case")
def _(wire):
    token = wire.ask().json()["access_token"]
    assert wire.machine.get(SELF, headers={"Authorization": f"bEARER {token}"}).status_code == 200


@says("RFC 6750 2.2", "a token in the body SHOULD NOT be used: it is not looked at")
def _(wire):
    sent = urlencode({"access_token": wire.ask().json()["access_token"]})
    answer = wire.machine.generic("GET", SELF, sent, content_type=FORM)
    assert answer.status_code == 401


@says("RFC 6750 2.3", "a token in the address SHOULD NOT be used: it is refused")
def _(wire):
    token = wire.ask().json()["access_token"]
    for name in ("access_token", "token"):
        assert wire.call(query=f"?{name}={token}").status_code == 401


@says("RFC 6750 3", "without credentials the answer MUST have a challenge, of scheme Bearer with a parameter at least")
def _(wire):
    answer = wire.call()
    assert (answer.status_code, challenge_of(answer)) == (401, ("Bearer", {"realm": "api"}))


@says("RFC 6750 3", "realm, scope, error and error_description MUST NOT appear more than once")
def _(wire):
    for answer in (wire.call(), wire.call("wrong"), _without_permission(wire)):
        challenge_of(answer)


@says("RFC 6750 3", "error and error_description MUST NOT have characters outside %x20-21 / %x23-5B / %x5D-7E")
def _(wire):
    for answer in (wire.call("wrong"), wire.call(wire.secret), _without_permission(wire)):
        assert all(SAYABLE.fullmatch(value) for value in challenge_of(answer)[1].values())


@says("RFC 6750 3", "a scope in the challenge is a list of scope-tokens")
def _(wire):
    assert re.fullmatch(r"[\x21\x23-\x5B\x5D-\x7E]+", challenge_of(_without_permission(wire))[1]["scope"])


@says("RFC 6750 3", "an access token that failed: the answer SHOULD have the error")
def _(wire):
    assert challenge_of(wire.call("wrong"))[1]["error"] == "invalid_token"


@says("RFC 6750 3.1", "invalid_token: expired SHOULD be 401")
def _(wire):
    token = wire.ask().json()["access_token"]
    with time_machine.travel(timezone.now() + timedelta(hours=1, seconds=1), tick=False):
        answer = wire.call(token)
    assert (answer.status_code, challenge_of(answer)[1]["error"]) == (401, "invalid_token")


@says("RFC 6750 3.1", "invalid_token: revoked SHOULD be 401")
def _(wire):
    token = wire.ask().json()["access_token"]
    headers = basic(wire.id, wire.secret)
    assert wire.machine.post("/oauth2/revoke", f"token={token}", content_type=FORM, headers=headers).status_code == 200
    answer = wire.call(token)
    assert (answer.status_code, challenge_of(answer)[1]["error"]) == (401, "invalid_token")


@says("RFC 6750 3.1", "invalid_token: malformed, or invalid for other reasons, SHOULD be 401")
def _(wire):
    for token in ("a.b.c", "x", "é", wire.secret):
        answer = wire.call(token)
        assert (answer.status_code, challenge_of(answer)[1]["error"]) == (401, "invalid_token")


@says("RFC 6750 3.1", "invalid_request: a malformed header may be 400; a bad credential is 401 here, whatever it is")
def _(wire):
    for header in ("Bearer", "Bearer ", "Bearer a b"):
        assert wire.machine.get(SELF, headers={"Authorization": header}).status_code == 401


@says("RFC 6750 3.1", "insufficient_scope: SHOULD be 403 and MAY name the scope that it takes")
def _(wire):
    answer = _without_permission(wire)
    assert (answer.status_code, challenge_of(answer)) == (
        403,
        ("Bearer", {"error": "insufficient_scope", "scope": "apitokens:read"}),
    )


@says("RFC 6750 3.1", "without any credentials the answer SHOULD NOT have an error")
def _(wire):
    assert "error" not in challenge_of(wire.call())[1]


def _without_permission(wire):
    token = wire.ask({**GRANT, "scope": "reports:read"}).json()["access_token"]
    return wire.machine.get("/api/v1/tokens", headers=bearer(token))


# RFC 9068 section 2 (the JWT) and section 3 (how it is asked for)


def header_of(answer):
    return jwt.get_unverified_header(answer.json()["access_token"])


@says("RFC 9068 2.1", "typ MUST be at+jwt, SHOULD be without application/")
def _(wire):
    assert header_of(wire.ask())["typ"] == "at+jwt"


@says("RFC 9068 2.1", "it MUST be signed, and alg none MUST NOT be used")
def _(wire):
    assert header_of(wire.ask())["alg"] == "ES256"


@says("RFC 9068 2.2", "iss, exp, aud, sub, client_id, iat and jti are REQUIRED")
def _(wire):
    claims = claims_in(wire.ask())
    assert {"iss", "exp", "aud", "sub", "client_id", "iat", "jti"} <= claims.keys()
    assert claims["exp"] - claims["iat"] == 3600


@says("RFC 9068 2.2", "sub SHOULD be the client where there is no resource owner")
def _(wire):
    claims = claims_in(wire.ask())
    assert (claims["sub"], claims["client_id"]) == (wire.id, wire.id)


@says("RFC 9068 2.2.2", "claims about a person are for where one took part: there are none")
def _(wire):
    claims = claims_in(wire.ask())
    assert claims.keys().isdisjoint({"email", "name", "auth_time", "acr", "amr"})


@says("RFC 9068 2.2.3", "asked for with a scope, it SHOULD have one")
def _(wire):
    assert claims_in(wire.ask({**GRANT, "scope": "reports:read"}))["scope"] == "reports:read"


@says("RFC 9068 2.2.3.1", "roles are a claim of that name")
def _(wire):
    assert claims_in(wire.ask())["roles"] == ["viewer"]


@says("RFC 9068 3", "asked for with a resource, aud SHOULD be that")
def _(wire):
    issuer = wire.acme.environment.issuer
    assert claims_in(wire.ask({**GRANT, "resource": issuer}))["aud"] == issuer


@says("RFC 9068 3", "without a resource, aud MUST be a default one")
def _(wire):
    assert claims_in(wire.ask())["aud"] == f"https://api.{wire.acme.environment.slug}.example"


# RFC 9068 section 4 (how it is validated, here by our own API)


def believes(wire, text):
    status = wire.call(text).status_code
    # Which of the two is what each sentence asks.
    assert status in {200, 401}
    return status == 200


@says("RFC 9068 4", "typ MUST be at+jwt or application/at+jwt, and any other rejected")
def _(wire):
    f = wire.forge()
    assert all(believes(wire, sign(f, header={"typ": typ})) for typ in ("at+jwt", "application/at+jwt", "AT+JWT"))
    assert not any(believes(wire, sign(f, header={"typ": typ})) for typ in ("JWT", "id+jwt", "", "statuslist+jwt"))


@says("RFC 9068 4", "encryption was not agreed on: what is encrypted is rejected")
def _(wire):
    assert not believes(wire, "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..AAAA.AAAA.AAAA")


@says("RFC 9068 4", "iss MUST be the server's issuer, exactly")
def _(wire):
    f = wire.forge()
    assert not any(
        believes(wire, sign(f, iss=other))
        for other in (f"{f.claims['iss']}/", f.claims["iss"].upper(), f.world.staging.issuer, settings.ORIGIN)
    )


@says("RFC 9068 4", "aud MUST have an identifier of the resource server; may have others")
def _(wire):
    f = wire.forge()
    assert believes(wire, sign(f, aud=[f.claims["aud"], "https://other.example"]))
    assert not any(believes(wire, sign(f, aud=other)) for other in ("https://other.example", [], ""))


@says("RFC 9068 4", "the signature MUST be validated, with the server's keys")
def _(wire):
    f = wire.forge()
    assert believes(wire, f.text)
    assert not any(believes(wire, sign(f, key=key)) for key in (f.own_key, f.their_key))


@says("RFC 9068 4", "alg none MUST be rejected")
def _(wire):
    f = wire.forge()
    none = jwt.encode(f.claims, None, algorithm="none", headers={"typ": "at+jwt", "kid": f.stored.kid})
    assert not believes(wire, none)


@says("RFC 9068 4", "the current time MUST be before exp")
def _(wire):
    f = wire.forge()
    at = f.claims["exp"]
    with time_machine.travel(at - 1, tick=False):
        assert believes(wire, f.text)
    with time_machine.travel(at, tick=False):
        assert not believes(wire, f.text)


@says("RFC 9068 4", "what is wrong with it is answered as RFC 6750 section 3.1 says: invalid_token")
def _(wire):
    answer = wire.call(sign(wire.forge(), iss="https://other.example"))
    assert (answer.status_code, challenge_of(answer)[1]["error"]) == (401, "invalid_token")


@says("RFC 9068 4", "its scope SHOULD be used with whatever else is known: with what the token may do now")
def _(wire):
    headers = bearer(wire.ask({**GRANT, "scope": "apitokens:read reports:read"}).json()["access_token"])
    assert wire.machine.get("/api/v1/tokens", headers=headers).status_code == 200
    RolePermission.objects.filter(role=wire.acme.role("viewer"), permission__key="apitokens:read").delete()
    assert wire.machine.get("/api/v1/tokens", headers=headers).status_code == 403


@pytest.mark.parametrize("check", SENTENCES)
def test_the_rfc_says(wire, check):
    check(wire)
