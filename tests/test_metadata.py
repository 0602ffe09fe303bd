"""What an environment says of itself (RFC 8414, OpenID Connect Discovery): of what is served, nothing else."""

import json
import re

import pytest
from django.conf import settings
from django.urls import resolve
from django.utils import timezone

from apitokens import keyring, setup
from config.demo import PERMISSIONS
from tenants.models import Environment
from tests.cast import basic

METADATA = [
    "/.well-known/oauth-authorization-server/e/{}",
    "/e/{}/.well-known/oauth-authorization-server",
]
OPENID = ["/.well-known/openid-configuration/e/{}", "/e/{}/.well-known/openid-configuration"]
DOCUMENTS = ["/e/{}/jwks.json", *METADATA, *OPENID]
CLIENT_METHODS = ["client_secret_basic", "client_secret_post", "private_key_jwt"]
ALGORITHMS = ["ES256", "RS256", "EdDSA", "Ed25519"]
FORM = "application/x-www-form-urlencoded"


def expected(environment):
    issuer = f"http://localhost:8000/e/{environment.slug}"
    return {
        "issuer": issuer,
        "jwks_uri": f"{issuer}/jwks.json",
        "grant_types_supported": ["client_credentials"],
        "response_types_supported": [],
        "scopes_supported": sorted([*setup.BUILT_IN, *PERMISSIONS]),
        "secret_pattern": rf"\b{environment.token_prefix}_(?:at|cs)_[0-9A-Za-z]{{61}}\b",
        "token_endpoint": "http://localhost:8000/oauth2/token",
        "token_endpoint_auth_methods_supported": CLIENT_METHODS,
        "token_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
        "introspection_endpoint": "http://localhost:8000/oauth2/introspect",
        "introspection_endpoint_auth_methods_supported": [*CLIENT_METHODS, "Bearer"],
        "introspection_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
        "revocation_endpoint": "http://localhost:8000/oauth2/revoke",
        "revocation_endpoint_auth_methods_supported": [*CLIENT_METHODS, "none"],
        "revocation_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
    }


@pytest.mark.parametrize("path", METADATA)
def test_the_metadata_says_what_is_served_and_nothing_else(acme, machine, path):
    answer = machine.get(path.format(acme.environment.slug), headers={"Host": "127.0.0.1", "X-Forwarded-Host": "x"})
    assert (answer.status_code, answer.json()) == (200, expected(acme.environment))


@pytest.mark.parametrize("path", OPENID)
def test_for_openid_clients_it_has_the_members_that_they_insist_on(acme, machine, path):
    answer = machine.get(path.format(acme.environment.slug))
    assert answer.json() == {
        **expected(acme.environment),
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    }


def test_a_verifier_learns_of_the_next_algorithm_as_soon_as_its_key_is_published(acme, machine):
    environment = acme.environment
    environment.signing_algorithm = "EdDSA"
    at = timezone.now()
    keyring.make(environment, state="published", at=at, active_from=at + keyring.lead())
    document = machine.get(OPENID[0].format(environment.slug)).json()
    assert document["id_token_signing_alg_values_supported"] == ["ES256", "EdDSA"]


def test_each_environment_has_its_own(world, machine):
    for environment in (world.production, world.staging):
        for path in METADATA:
            assert machine.get(path.format(environment.slug)).json() == expected(environment)


def test_whatever_it_names_is_there(acme, machine):
    """Each endpoint takes a client that authenticates as the metadata says, and no address leads nowhere."""
    document = machine.get(METADATA[0].format(acme.environment.slug)).json()
    for name, value in document.items():
        if name.endswith(("_endpoint", "_uri")):
            resolve(value.removeprefix(settings.ORIGIN))
    issued = acme.issue_for_environment(kind="client_credentials", roles=[], permissions=["tokens:introspect"])
    headers = basic(issued.token.client_id, issued.plaintext)
    for name in ("token", "introspection", "revocation"):
        path = document[f"{name}_endpoint"].removeprefix(settings.ORIGIN)
        form = "grant_type=client_credentials&token=x"
        answer = machine.post(path, data=form, content_type=FORM, headers=headers)
        assert answer.status_code == 200, name


def test_the_pattern_finds_the_secrets_of_the_environment(acme, machine):
    pattern = machine.get(METADATA[0].format(acme.environment.slug)).json()["secret_pattern"]
    for kind in ("client_credentials", "access_token"):
        plaintext = acme.issue("admin", kind=kind, name=kind).plaintext
        assert re.findall(pattern, f"KEY={plaintext};") == [plaintext]


@pytest.mark.parametrize("path", DOCUMENTS)
def test_a_document_is_for_anybody_and_kept_no_longer_than_the_keys(acme, machine, path):
    answer = machine.get(path.format(acme.environment.slug))
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == f"public, max-age={settings.JWKS_MAX_AGE}"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Set-Cookie" not in answer.headers
    assert "Vary" not in answer.headers
    head = machine.head(path.format(acme.environment.slug))
    assert (head.status_code, head.headers["ETag"]) == (200, answer.headers["ETag"])


@pytest.mark.parametrize("path", DOCUMENTS)
def test_a_document_that_has_not_changed_is_not_sent_again(acme, machine, path):
    path = path.format(acme.environment.slug)
    first = machine.get(path)
    again = machine.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
    assert again.headers["Cache-Control"] == first.headers["Cache-Control"]
    assert machine.get(path, headers={"If-None-Match": '"other"'}).content == first.content


@pytest.mark.parametrize("path", DOCUMENTS)
def test_a_document_is_served_while_its_environment_is_suspended_and_not_once_it_is_deleted(acme, machine, path):
    path = path.format(acme.environment.slug)
    before = machine.get(path).content
    Environment.objects.filter(pk=acme.environment.pk).update(suspended_at=timezone.now())
    assert machine.get(path).content == before
    Environment.objects.filter(pk=acme.environment.pk).update(deleted_at=timezone.now())
    assert machine.get(path).status_code == 404


@pytest.mark.parametrize("path", [*(path.format("never") for path in DOCUMENTS), *METADATA, *OPENID,
    "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"])  # fmt: skip
def test_an_issuer_that_is_none_has_no_document(world, machine, path):
    answer = machine.get(path)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (404, "no-store")


@pytest.mark.parametrize("path", DOCUMENTS)
@pytest.mark.parametrize("verb", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_a_document_is_read_only(acme, machine, path, verb):
    answer = machine.generic(verb, path.format(acme.environment.slug))
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_no_private_part_of_a_key_is_in_any_document(acme, machine):
    said = "".join(machine.get(path.format(acme.environment.slug)).content.decode() for path in DOCUMENTS)
    assert json.loads(machine.get(DOCUMENTS[0].format(acme.environment.slug)).content)["keys"]
    for private in ('"d"', '"p"', '"q"', '"dp"', '"dq"', '"qi"', '"k"', "PRIVATE"):
        assert private not in said
