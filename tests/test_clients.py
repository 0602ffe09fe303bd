"""Clients and verifiers that others wrote work unmodified: whole tokens, bodies and headers against the real server."""

import asyncio
import json
from unittest.mock import ANY  # noqa: TID251 -- for == over a whole JSON body; nothing is mocked

import httpx2
import jwt
import pytest
import requests
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from authlib.integrations.requests_client import OAuth2Session as AuthlibSession
from authlib.oauth2.rfc6750.errors import InsufficientScopeError
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from authlib.oauth2.rfc9068 import JWTBearerTokenValidator
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey
from oauthlib.oauth2 import BackendApplicationClient, InvalidClientError, InvalidScopeError
from requests_oauthlib import OAuth2Session

from tests.backend import BIRCH, READ, Backend

pytestmark = pytest.mark.process

WRONG = "Unknown client or wrong secret."
CHALLENGE = 'Basic realm="token endpoint", charset="UTF-8"'
UNKEPT = {"content-type": "application/json", "cache-control": "no-store", "pragma": "no-cache"}
# What is in every answer, of a page as of an API.
EVERYWHERE = {
    "content-length", "content-security-policy", "cross-origin-opener-policy", "date", "referrer-policy", "server",
    "x-content-type-options", "x-frame-options", "x-request-id",
}  # fmt: skip
GRANTED = {"access_token": ANY, "token_type": "Bearer", "expires_in": 3600, "scope": READ}
# Authlib and oauthlib reckon it from the answer.
KEPT = {**GRANTED, "expires_at": ANY}


@pytest.fixture(scope="module")
def backend(server):
    return Backend(server)


@pytest.fixture(scope="module")
def client(backend):
    return backend.make()


@pytest.fixture
def plain_http(monkeypatch):
    """oauthlib's own switch for a server without TLS."""
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")


@pytest.fixture
def answers():
    """What a library got, in its session's own hook."""
    return []


def headers_of(answer: requests.Response | httpx2.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.headers.items() if name.lower() not in EVERYWHERE}


def authlib(client, answers, way="client_secret_basic", **options):
    session = AuthlibSession(
        client["client_id"], client["client_secret"], token_endpoint_auth_method=way, trust_env=False, **options
    )
    session.hooks["response"].append(lambda answer, **_: answers.append(answer))
    return session


def claims_expected(backend, client):
    """Every claim of a JWT of that client, which is Birch Bank's."""
    birch = next(tenant for tenant in backend.demo["tenants"] if tenant["external_id"] == BIRCH)
    return {
        "iss": backend.issuer,
        "aud": backend.audience,
        "sub": client["client_id"],
        "client_id": client["client_id"],
        "scope": READ,
        "env": backend.environment["slug"],
        "tenant": birch["id"],
        "tenant_external_id": BIRCH,
        "exp": ANY,
        "iat": ANY,
        "jti": ANY,
        "gen": 0,
        "status": {"status_list": {"idx": ANY, "uri": f"{backend.issuer}/status/0"}},
    }


@pytest.mark.parametrize("way", ["client_secret_basic", "client_secret_post"])
def test_authlib_gets_a_jwt_and_calls_the_api_with_it(backend, client, answers, way):
    with authlib(client, answers, way, scope=READ) as session:
        assert session.fetch_token(backend.token_endpoint, grant_type="client_credentials") == KEPT
        who = session.get(f"{backend.origin}/api/v1/token/self")
    assert (who.status_code, who.json()["id"], who.json()["scope"]) == (200, client["id"], READ)
    assert (answers[0].json(), headers_of(answers[0])) == (GRANTED, UNKEPT)


def test_authlib_renews_a_jwt_that_is_about_to_end(backend, client, answers):
    about_to_end = {"token_endpoint": backend.token_endpoint, "grant_type": "client_credentials", "leeway": 3601}
    with authlib(client, answers, **about_to_end) as session:
        first = session.fetch_token()["access_token"]
        assert session.get(f"{backend.origin}/api/v1/token/self").status_code == 200
        assert session.token["access_token"] != first
    assert [answer.status_code for answer in answers] == [200, 200, 200]


REFUSED = {
    "client_secret_basic": (401, {**UNKEPT, "www-authenticate": CHALLENGE}),
    "client_secret_post": (400, UNKEPT),
}


@pytest.mark.parametrize("way", REFUSED)
def test_authlib_says_why_it_was_refused(backend, client, answers, way):
    wrong = {**client, "client_secret": "wrong"}
    with authlib(wrong, answers, way) as session, pytest.raises(OAuthError) as raised:
        session.fetch_token(backend.token_endpoint, grant_type="client_credentials")
    assert (raised.value.error, raised.value.description) == ("invalid_client", WRONG)
    assert answers[0].json() == {"error": "invalid_client", "error_description": WRONG}
    assert (answers[0].status_code, headers_of(answers[0])) == REFUSED[way]


@pytest.mark.parametrize("way", ["client_secret_basic", "client_secret_post"])
def test_authlib_does_the_same_without_waiting(backend, client, answers, way):
    async def note(answer):
        await answer.aread()
        answers.append(answer)

    async def ask():
        options = {"token_endpoint_auth_method": way, "trust_env": False, "event_hooks": {"response": [note]}}
        async with AsyncOAuth2Client(client["client_id"], client["client_secret"], **options) as session:
            granted = await session.fetch_token(backend.token_endpoint, grant_type="client_credentials", scope=READ)
            return granted, await session.get(f"{backend.origin}/api/v1/token/self")

    granted, who = asyncio.run(ask())
    assert granted == KEPT
    assert (who.status_code, who.json()["id"]) == (200, client["id"])
    assert (answers[0].json(), headers_of(answers[0])) == (GRANTED, UNKEPT)


KEYS = {
    "ES256": ECKey.generate_key("P-256"),
    "RS256": RSAKey.generate_key(2048),
    "Ed25519": OKPKey.generate_key("Ed25519"),
}


@pytest.mark.parametrize("algorithm", KEYS)
def test_authlib_proves_itself_by_a_key_of_its_own(backend, answers, algorithm):
    key = KEYS[algorithm]
    client = backend.make(public_key=json.dumps(key.as_dict(private=False)))
    assert "client_secret" not in client
    with authlib({**client, "client_secret": key}, answers, "private_key_jwt") as session:
        session.register_client_auth_method(PrivateKeyJWT(backend.token_endpoint, alg=algorithm))
        assert session.fetch_token(backend.token_endpoint, grant_type="client_credentials") == KEPT
    assert (answers[0].json(), headers_of(answers[0])) == (GRANTED, UNKEPT)


def test_authlib_is_refused_with_a_key_that_is_not_the_clients(backend, answers):
    client = backend.make(public_key=json.dumps(KEYS["ES256"].as_dict(private=False)))
    wrong = {**client, "client_secret": ECKey.generate_key("P-256")}
    with authlib(wrong, answers, "private_key_jwt") as session:
        session.register_client_auth_method(PrivateKeyJWT(backend.token_endpoint, alg="ES256"))
        with pytest.raises(OAuthError) as raised:
            session.fetch_token(backend.token_endpoint, grant_type="client_credentials")
    assert raised.value.error == "invalid_client"
    assert (answers[0].status_code, headers_of(answers[0])) == (400, UNKEPT)


def test_authlib_introspects_and_revokes(backend, client, answers):
    ours = dict(zip(("client_id", "client_secret"), backend.client, strict=True))
    at = {name: f"{backend.origin}/oauth2/{name}" for name in ("introspect", "revoke")}
    with authlib(ours, answers) as asking, authlib(client, answers) as session:
        access = session.fetch_token(backend.token_endpoint, grant_type="client_credentials")["access_token"]
        active = asking.introspect_token(at["introspect"], token=access)
        revoked = session.revoke_token(at["revoke"], token=access, token_type_hint="access_token")
        inactive = asking.introspect_token(at["introspect"], token=access)
    told = {name: value for name, value in claims_expected(backend, client).items() if name not in ("gen", "status")}
    assert active.json() == {"active": True, "token_type": "Bearer", **told}
    assert (revoked.status_code, revoked.json()) == (200, {})
    assert inactive.json() == {"active": False}
    assert [headers_of(answer) for answer in (active, revoked, inactive)] == [UNKEPT] * 3


@pytest.mark.usefixtures("plain_http")
@pytest.mark.parametrize("in_body", [False, True], ids=["basic", "body"])
def test_requests_oauthlib_gets_a_jwt_and_calls_the_api_with_it(backend, client, answers, in_body):
    with OAuth2Session(client=BackendApplicationClient(client["client_id"], scope=[READ])) as session:
        session.trust_env = False
        session.hooks["response"].append(lambda answer, **_: answers.append(answer))
        granted = session.fetch_token(
            backend.token_endpoint,
            client_id=client["client_id"],
            client_secret=client["client_secret"],
            include_client_id=in_body or None,
        )
        who = session.get(f"{backend.origin}/api/v1/token/self")
    assert granted == {**KEPT, "scope": [READ]}
    assert (who.status_code, who.json()["id"]) == (200, client["id"])
    assert (answers[0].json(), headers_of(answers[0])) == (GRANTED, UNKEPT)
    assert ("Authorization" in answers[0].request.headers) != in_body


@pytest.mark.usefixtures("plain_http")
def test_requests_oauthlib_says_that_it_asked_for_too_much(backend, client):
    with OAuth2Session(client=BackendApplicationClient(client["client_id"], scope=["reports:write"])) as session:
        session.trust_env = False
        with pytest.raises(InvalidScopeError) as raised:
            session.fetch_token(backend.token_endpoint, client_secret=client["client_secret"])
    assert raised.value.description == "This client may not do: reports:write"


@pytest.mark.usefixtures("plain_http")
def test_oauthlibs_own_client_writes_the_request_and_reads_the_answer(backend, client):
    ours = BackendApplicationClient(client["client_id"])
    url, headers, body = ours.prepare_token_request(
        backend.token_endpoint, client_secret=client["client_secret"], include_client_id=True, scope=READ
    )
    answer = backend.send("POST", url, headers=headers, data=body)
    assert ours.parse_request_body_response(answer.text) == {**KEPT, "scope": [READ]}
    url, headers, body = ours.add_token(f"{backend.origin}/api/v1/token/self")
    who = backend.send("GET", url, headers=headers, data=body)
    assert (who.status_code, who.json()["id"]) == (200, client["id"])


@pytest.mark.usefixtures("plain_http")
def test_oauthlibs_own_client_says_why_it_was_refused(backend, client):
    ours = BackendApplicationClient(client["client_id"])
    url, headers, body = ours.prepare_token_request(
        backend.token_endpoint, client_secret="wrong", include_client_id=True
    )
    answer = backend.send("POST", url, headers=headers, data=body)
    with pytest.raises(InvalidClientError) as raised:
        ours.parse_request_body_response(answer.text)
    assert (answer.status_code, raised.value.description) == (400, WRONG)


def test_pyjwt_verifies_a_jwt_by_the_jwks(backend, client):
    access = backend.grant(client)
    with_keys = jwt.PyJWKClient(f"{backend.issuer}/jwks.json")
    key = with_keys.get_signing_key_from_jwt(access)
    rules = {"algorithms": ["ES256"], "issuer": backend.issuer, "audience": backend.audience}
    read = jwt.decode_complete(access, key, **rules, options={"strict_aud": True})
    assert read["header"] == {"alg": "ES256", "typ": "at+jwt", "kid": key.key_id}
    assert read["payload"] == claims_expected(backend, client)


def test_joserfc_verifies_a_jwt_by_the_jwks(backend, client):
    keys = KeySet.import_key_set(backend.document(f"{backend.issuer}/jwks.json"))
    read = joserfc_jwt.decode(backend.grant(client), keys, algorithms=["ES256"])
    essential = {name: {"essential": True} for name in ("exp", "iat", "jti", "client_id")}
    joserfc_jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": backend.issuer},
        aud={"essential": True, "value": backend.audience},
        sub={"essential": True, "value": client["client_id"]},
        **essential,
    ).validate(read.claims)
    assert read.header == {"alg": "ES256", "typ": "at+jwt", "kid": ANY}
    assert read.claims == claims_expected(backend, client)


class ByOurKeys(JWTBearerTokenValidator):
    """Authlib leaves to its user where the keys come from."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(issuer=backend.issuer, resource_server=backend.audience)
        self.keys = KeySet.import_key_set(backend.document(f"{backend.issuer}/jwks.json"))

    def get_jwks(self) -> KeySet:
        return self.keys


def test_authlib_takes_a_jwt_for_one_of_rfc_9068(backend, client):
    validator = ByOurKeys(backend)
    claims = validator.authenticate_token(backend.grant(client))
    assert dict(claims) == claims_expected(backend, client)
    validator.validate_token(claims, [READ], request=None)
    with pytest.raises(InsufficientScopeError):
        validator.validate_token(claims, ["reports:write"], request=None)


def test_authlib_finds_nothing_wrong_with_the_metadata(backend):
    inserted = f"{backend.origin}/.well-known/oauth-authorization-server/e/{backend.environment['slug']}"
    found = backend.document(inserted)
    # RFC 8414 requires the member. There is nothing in it, which Authlib takes for no member at all.
    assert found["response_types_supported"] == []
    AuthorizationServerMetadata({**found, "response_types_supported": ["none"]}).validate()
    assert (found["issuer"], found["token_endpoint"]) == (backend.issuer, backend.token_endpoint)
