"""Our own API takes what is meant for it: the environment's default identifier or its issuer, and for no other API."""

import pytest

from apitokens.models import ApiToken, TokenType
from tenants.models import ApiIdentifier
from tests.answers import unauthorized
from tests.cast import basic, bearer, jwt_of

OTHER = "https://files.example"
DEFAULT, ISSUER = "https://api.{}.example", "http://localhost:8000/e/{}"


@pytest.fixture
def presented(acme, machine):
    """One token in each of the three ways into the API, all held to the same audiences."""
    ApiIdentifier.objects.create(environment=acme.environment, uri=OTHER)
    opaque = acme.issue("admin", name="Opaque")
    client = acme.issue("admin", name="Client", kind="client_credentials")
    TokenType.objects.filter(pk=client.token.token_type_id).update(accepts_basic=True)

    def ways(audiences, **asked):
        ApiToken.objects.update(audiences=[])
        before = jwt_of(machine, client)
        ApiToken.objects.update(audiences=[uri.format(acme.environment.slug) for uri in audiences])
        return {
            "Bearer": bearer(opaque.plaintext),
            "Basic": basic(client.token.client_id, client.plaintext),
            "a JWT of before": bearer(before),
            "a JWT": bearer(jwt_of(machine, client, **asked)),
        }

    return ways


def test_what_it_is_for_is_said_in_characters_that_a_challenge_may_have(acme, machine):
    """RFC 6750 section 3."""
    odd = 'urn:a"b\\c-é'
    ApiIdentifier.objects.create(environment=acme.environment, uri=odd)
    issued = acme.issue("admin")
    ApiToken.objects.update(audiences=[odd])
    told = "The token is right but does not work. It is for urn:a%22b%5Cc-%C3%A9 and not for this API."
    unauthorized(machine.get("/api/v1/token/self", headers=bearer(issued.plaintext)), told)


@pytest.mark.parametrize(
    "audiences",
    [
        pytest.param([], id="all"),
        pytest.param([DEFAULT], id="default"),
        pytest.param([OTHER, DEFAULT], id="default-and-another"),
    ],
)
def test_a_token_that_may_be_used_for_us_is_let_in(presented, machine, audiences):
    for headers in presented(audiences).values():
        assert machine.get("/api/v1/token/self", headers=headers).status_code == 200


def test_a_token_for_the_issuer_alone_is_let_in(presented, machine):
    ways = presented([ISSUER])
    # It was for the default identifier, which its token has lost.
    assert machine.get("/api/v1/token/self", headers=ways.pop("a JWT of before")).status_code == 401
    for headers in ways.values():
        assert machine.get("/api/v1/token/self", headers=headers).status_code == 200


def test_a_token_for_others_alone_is_401_and_hears_for_whom_it_is(presented, machine):
    ways = presented([OTHER])
    told = f"The token is right but does not work. It is for {OTHER} and not for this API."
    unauthorized(machine.get("/api/v1/token/self", headers=ways["Bearer"]), told)
    unauthorized(machine.get("/api/v1/token/self", headers=ways["a JWT"]), told)
    unauthorized(machine.get("/api/v1/token/self", headers=ways["Basic"]), told, "Basic")
    assert machine.get("/api/v1/token/self", headers=ways["a JWT of before"]).status_code == 401


def test_a_jwt_asked_for_another_api_is_401_though_its_token_may_be_used_for_us(presented, machine):
    ways = presented([OTHER, DEFAULT], resource=OTHER)
    told = f"The token is right but does not work. It is for {OTHER} and not for this API."
    unauthorized(machine.get("/api/v1/token/self", headers=ways["a JWT"]), told)
    assert machine.get("/api/v1/token/self", headers=ways["a JWT of before"]).status_code == 200
