"""`manage.py demo --json`: as often as it is called, another vendor, and all that it prints is true over HTTP."""

import json
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import transaction
from django.test import Client

from apitokens.setup import ENVIRONMENT_ONLY
from tenants.models import Vendor
from tests.cast import basic, bearer, send

KEYS = {
    "vendor": {"id", "name", "slug"},
    "environments": {"id", "name", "slug", "issuer", "audience"},
    "tenants": {"id", "slug", "name", "external_id", "environment"},
    "users": {"id", "email", "password", "tenant", "tenant_slug", "role"},
    "vendor_users": {"id", "email", "password", "role"},
    "roles": {"id", "key", "level", "permissions", "environment", "tenant"},
    "environment_tokens": {"environment", "access_token", "client_id", "client_secret"},
    "paths": {"login", "tokens", "token_endpoint", "jwks", "metadata", "api", "schema", "origin"},
}


def demo():
    out = StringIO()
    call_command("demo", "--json", stdout=out)
    return json.loads(out.getvalue().splitlines()[-1])


@pytest.fixture(scope="module")
def demos(django_db_setup, django_db_blocker):
    """Two, once for all tests here: their passwords take a while to hash."""
    with django_db_blocker.unblock(), transaction.atomic():
        yield demo(), demo()
        transaction.set_rollback(True)


@pytest.fixture(autouse=True)
def _in_the_database(demos, db):
    """Each test in a transaction of its own, inside that of the demos."""


def leaves(value):
    """Everything in it that names one thing alone: ids, slugs, secrets, addresses of people."""
    unique = {"id", "slug", "issuer", "email", "password", "access_token", "client_id", "client_secret", "audience"}
    if isinstance(value, list):
        return {leaf for item in value for leaf in leaves(item)}
    if isinstance(value, dict):
        own = {item for name, item in value.items() if name in unique}
        return own | {leaf for item in value.values() if isinstance(item, dict | list) for leaf in leaves(item)}
    return set()


def test_the_last_line_is_one_object_with_these_keys(demos):
    for made in demos:
        assert set(made) == set(KEYS)
        for name, keys in KEYS.items():
            for item in made[name] if isinstance(made[name], list) else [made[name]]:
                assert set(item) == keys, name


def test_two_demos_are_disjoint(demos):
    first, second = demos
    assert leaves(first) & leaves(second) == set()
    assert min(len(leaves(made)) for made in demos) > 60
    assert Vendor.objects.count() == 2


def test_the_people_sign_in_and_see_the_tokens_of_their_tenant(demos):
    """A person of each role, in each demo; the consultant, who belongs to two tenants, is asked which."""
    for made in demos:
        for role in ("viewer", "member", "admin", "owner"):
            person = next(user for user in made["users"] if user["role"] == role)
            browser = Client(enforce_csrf_checks=True)
            answer = send(browser, made["paths"]["login"], login=person["email"], password=person["password"])
            assert (answer.status_code, answer.headers["Location"]) == (302, "/")
            for tenant in made["tenants"]:
                path = made["paths"]["tokens"].format(tenant_slug=tenant["slug"])
                assert browser.get(path).status_code == (200 if tenant["id"] == person["tenant"] else 404)


def test_the_consultant_has_two_tenants_and_the_vendors_owner_none(demos):
    made = demos[1]
    consultant = next(user for user in made["users"] if user["email"].startswith("consultant@"))
    (owner,) = made["vendor_users"]
    doors = {consultant["email"]: 2, owner["email"]: 0}
    for person in (consultant, owner):
        browser = Client(enforce_csrf_checks=True)
        send(browser, made["paths"]["login"], login=person["email"], password=person["password"])
        paths = [made["paths"]["tokens"].format(tenant_slug=tenant["slug"]) for tenant in made["tenants"]]
        assert [browser.get(path).status_code for path in paths].count(200) == doors[person["email"]]


def test_the_environments_tokens_work_on_every_wire(demos, machine):
    for made in demos:
        slugs = {environment["id"]: environment["slug"] for environment in made["environments"]}
        assert [token["environment"] for token in made["environment_tokens"]] == list(slugs)
        for token in made["environment_tokens"]:
            slug = slugs[token["environment"]]
            headers = basic(token["client_id"], token["client_secret"])
            data = {"data": "grant_type=client_credentials", "content_type": "application/x-www-form-urlencoded"}
            jwt = machine.post(made["paths"]["token_endpoint"], headers=headers, **data).json()["access_token"]
            for credential in (bearer(token["access_token"]), bearer(jwt), headers):
                answer = machine.get(f"{made['paths']['api']}token/self", headers=credential)
                assert (answer.status_code, answer.json()["environment"]) == (200, slug)
            for tenant in made["tenants"]:
                listed = machine.get(
                    f"{made['paths']['api']}tokens?tenant={tenant['id']}", headers=bearer(token["access_token"])
                )
                assert listed.status_code == (200 if tenant["environment"] == token["environment"] else 404)


def test_the_public_documents_are_where_it_says(demos, machine):
    for made in demos:
        for environment in made["environments"]:
            metadata = machine.get(made["paths"]["metadata"].format(environment_slug=environment["slug"])).json()
            assert metadata["issuer"] == environment["issuer"]
            jwks = machine.get(made["paths"]["jwks"].format(environment_slug=environment["slug"])).json()
            assert len(jwks["keys"]) == 1
        assert machine.get(made["paths"]["schema"]).status_code == 200


def test_the_roles_are_as_it_says(demos, machine):
    made = demos[0]
    token = {each["environment"]: each["access_token"] for each in made["environment_tokens"]}
    tenant = {each["environment"]: each["id"] for each in made["tenants"]}
    for number, role in enumerate(role for role in made["roles"] if role["tenant"] is None):
        body = {
            "name": f"{number}",
            "kind": "access_token",
            "roles": [role["id"]],
            "tenant": tenant[role["environment"]],
        }
        answer = machine.post(
            "/api/v1/tokens", body, content_type="application/json", headers=bearer(token[role["environment"]])
        )
        for_tenants = [key for key in role["permissions"] if key not in ENVIRONMENT_ONLY]
        assert (answer.status_code, answer.json()["granted"]) == (201, for_tenants)
