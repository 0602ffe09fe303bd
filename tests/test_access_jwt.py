"""The JWT of the token endpoint (RFC 9068) as a resource server sees it, with nothing but the published documents."""

import json
from datetime import timedelta

import jwt
import pytest
import time_machine
from django.apps import apps
from django.urls import NoReverseMatch, Resolver404, get_resolver, resolve, reverse
from django.utils import timezone
from jwcrypto.jwk import JWKSet
from jwcrypto.jwt import JWT

from apitokens import keyring, principals, services
from apitokens.models import SigningKey
from apitokens.orders import Expiry
from tenants.models import Environment
from tests.answers import VIEWER
from tests.cast import bearer, claims_of, everything_stored, grant, jwt_of, key_state

PUBLIC_MEMBERS = {
    "ES256": {"kty", "crv", "x", "y", "kid", "use", "alg"},
    "RS256": {"kty", "n", "e", "kid", "use", "alg"},
    "EdDSA": {"kty", "crv", "x", "kid", "use", "alg"},
}


def _sign_with(environment, algorithm):
    SigningKey.objects.filter(environment=environment).delete()
    Environment.objects.filter(pk=environment.pk).update(signing_algorithm=algorithm)
    environment.refresh_from_db()
    keyring.create_first_key(environment, at=timezone.now())


@pytest.mark.parametrize("algorithm", PUBLIC_MEMBERS)
def test_anyone_verifies_it_from_the_published_documents_alone(acme, machine, algorithm):
    environment = acme.environment
    _sign_with(environment, algorithm)
    token = jwt_of(machine, acme.issue("admin", kind="client_credentials"))
    metadata = machine.get(f"/e/{environment.slug}/.well-known/oauth-authorization-server").json()
    path = metadata["jwks_uri"].removeprefix("http://localhost:8000")
    published = machine.get(path).content.decode()
    audience = f"https://api.{environment.slug}.example"
    (key,) = jwt.PyJWKSet.from_json(published).keys
    ours = jwt.decode(token, key, algorithms=[algorithm], audience=audience, issuer=metadata["issuer"])
    theirs = JWT(jwt=token, key=JWKSet.from_json(published), algs=[algorithm], check_claims={"aud": audience})
    assert json.loads(theirs.claims) == ours
    assert set(json.loads(published)["keys"][0]) == PUBLIC_MEMBERS[algorithm]
    assert jwt.get_unverified_header(token) == {"alg": algorithm, "kid": key.key_id, "typ": "at+jwt"}


def test_every_claim_of_a_tenants_client(acme, machine):
    issued = acme.issue("admin", kind="client_credentials", roles=["viewer"])
    at = timezone.now().replace(microsecond=900_000)
    with time_machine.travel(at, tick=False):
        answer = grant(machine, issued)
    claims = claims_of(answer.json()["access_token"])
    assert len(claims.pop("jti")) == 32
    assert claims == {
        "iss": f"http://localhost:8000/e/{acme.environment.slug}",
        "sub": issued.token.client_id,
        "client_id": issued.token.client_id,
        "aud": f"https://api.{acme.environment.slug}.example",
        "iat": int(at.timestamp()),
        "exp": int(at.timestamp()) + 3600,
        "scope": VIEWER,
        "env": acme.environment.slug,
        "gen": 0,
        "tenant": str(acme.tenant.id),
        "tenant_external_id": acme.tenant.external_id,
        "roles": ["viewer"],
        "status": {"status_list": {"idx": 0, "uri": f"{acme.environment.issuer}/status/0"}},
    }
    assert (answer.json()["scope"], answer.json()["expires_in"]) == (VIEWER, 3600)


def test_an_allowlist_is_told_to_resource_servers(acme, machine):
    issued = acme.issue("admin", kind="client_credentials", ip_allowlist=("127.0.0.0/8", "2001:db8::/32"))
    assert claims_of(jwt_of(machine, issued))["cidr"] == ["127.0.0.0/8", "2001:db8::/32"]


def test_no_two_jwts_have_the_same_id(acme, machine):
    issued = acme.issue("admin", kind="client_credentials")
    assert claims_of(jwt_of(machine, issued))["jti"] != claims_of(jwt_of(machine, issued))["jti"]


def test_an_environments_client_acts_for_its_environment_or_for_the_tenant_it_names(acme, machine):
    issued = acme.issue_for_environment(kind="client_credentials", permissions=["reports:read"], roles=[])
    unbound = claims_of(jwt_of(machine, issued))
    assert {"tenant", "tenant_external_id", "roles"} & set(unbound) == set()
    for reference in (str(acme.tenant.id), acme.tenant.external_id):
        bound = claims_of(jwt_of(machine, issued, tenant=reference))
        assert (bound["tenant"], bound["tenant_external_id"]) == (str(acme.tenant.id), acme.tenant.external_id)
        assert set(bound) - set(unbound) == {"tenant", "tenant_external_id"}


@pytest.mark.parametrize(
    ("asked", "scope", "roles"),
    [
        pytest.param("", VIEWER, ["viewer"], id="nothing-asked"),
        pytest.param(VIEWER.replace(" ", "+"), VIEWER, ["viewer"], id="everything-asked"),
        pytest.param("reports:read", "reports:read", None, id="narrowed"),
        pytest.param("reports:read+reports:read", "reports:read", None, id="asked-twice"),
    ],
)
def test_a_narrower_scope_narrows_the_jwt_which_then_names_no_role(acme, machine, asked, scope, roles):
    answer = grant(machine, acme.issue("admin", kind="client_credentials", roles=["viewer"]), scope=asked)
    claims = claims_of(answer.json()["access_token"])
    assert (claims["scope"], claims.get("roles")) == (scope, roles)
    assert answer.json()["scope"] == scope


@pytest.mark.parametrize(("seconds", "lifetime"), [(600, 600), (3600, 3600), (7200, 3600)])
def test_its_end_never_passes_that_of_its_token(acme, machine, seconds, lifetime):
    at = timezone.now().replace(microsecond=0)
    issued = acme.issue("admin", kind="client_credentials", expires_at=at + timedelta(seconds=seconds))
    with time_machine.travel(at + timedelta(milliseconds=700), tick=False):
        answer = grant(machine, issued)
    claims = claims_of(answer.json()["access_token"])
    assert (answer.json()["expires_in"], claims["exp"] - claims["iat"]) == (lifetime, lifetime)
    assert claims["exp"] <= issued.token.expires_at.timestamp()


@pytest.mark.parametrize(("parents_minutes", "seconds"), [(10, 600), (90, 3600)])
def test_its_end_never_passes_that_of_the_token_that_made_its_token(acme, machine, parents_minutes, seconds):
    at = timezone.now().replace(microsecond=0)
    parent = acme.issue_for_environment(kind="access_token", expires_at=at + timedelta(hours=2))
    body = {"name": "Child", "kind": "client_credentials", "roles": ["viewer"], "tenant": str(acme.tenant.id)}
    headers = bearer(parent.plaintext)
    child = machine.post("/api/v1/tokens", body, content_type="application/json", headers=headers).json()
    services.edit(
        by=principals.system(acme.environment),
        token=parent.token,
        at=at,
        expiry=Expiry(at=at + timedelta(minutes=parents_minutes)),
    )
    with time_machine.travel(at, tick=False):
        form = {"client_id": child["client_id"], "client_secret": child["client_secret"]}
        data = f"grant_type=client_credentials&client_id={form['client_id']}&client_secret={form['client_secret']}"
        answer = machine.post("/oauth2/token", data, content_type="application/x-www-form-urlencoded")
    assert answer.json()["expires_in"] == seconds


def test_a_grant_and_its_use_write_no_row(acme, machine):
    """R9; the first one alone makes its place in the status list."""
    issued = acme.issue("admin", kind="client_credentials")
    grant(machine, issued)
    before = everything_stored()
    token = jwt_of(machine, issued)
    assert machine.get("/api/v1/token/self", headers=bearer(token)).status_code == 200
    assert everything_stored() == before


def test_the_librarys_own_tables_stay_empty_and_none_of_its_addresses_is_served(acme, machine):
    assert grant(machine, acme.issue("admin", kind="client_credentials")).status_code == 200
    models = list(apps.get_app_config("oauth2_provider").get_models())
    assert {model._meta.object_name: model.objects.count() for model in models} == {
        model._meta.object_name: 0 for model in models
    }
    for path in ("/o/token/", "/o/authorize/", "/oauth2/authorize", "/oauth2/token/", "/oauth2/applications/"):
        with pytest.raises(Resolver404):
            resolve(path)
    with pytest.raises(NoReverseMatch):
        reverse("oauth2_provider:token")
    modules = [pattern.callback.__module__ for pattern in _patterns(get_resolver())]
    assert [module for module in modules if module.startswith("oauth2_provider")] == []
    assert "apitokens.oauth.token" in modules


def _patterns(resolver):
    for pattern in resolver.url_patterns:
        if hasattr(pattern, "url_patterns"):
            yield from _patterns(pattern)
        else:
            yield pattern


@pytest.mark.parametrize(
    ("state", "shown"),
    [("published", True), ("active", True), ("retiring", True), ("retired", False), ("compromised", False)],
)
def test_the_key_set_holds_the_keys_that_verify_and_no_other_environments(world, machine, state, shown):
    key = SigningKey.objects.get(environment=world.production)
    path = f"/e/{world.production.slug}/jwks.json"
    etag = machine.get(path).headers["ETag"]
    SigningKey.objects.filter(pk=key.pk).update(**key_state(state))
    answer = machine.get(path, headers={"If-None-Match": etag})
    assert answer.status_code == (304 if shown else 200)
    assert machine.get(path).json() == {"keys": [key.public_jwk] if shown else []}
