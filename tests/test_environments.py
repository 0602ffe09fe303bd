"""An environment, from its making to its end: by whom, with what, and what becomes of what is in it (R2, R5)."""

import json
import re
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from apitokens.governance import environments
from apitokens.models import ApiToken, SigningKey, TokenType
from apitokens.principals import ConsolePrincipal
from audit.actors import Actor
from audit.models import ActorKind
from tenants.models import Environment, Role, TakenSlug, VendorMembershipEnvironment
from tests.cast import TRACES, alive, bearer, claims_of, event, everything_stored, grant, iso, jwt_of
from tests.doors import ENVIRONMENT_API
from tests.factories import VendorMembershipFactory

NEW = {"name": "Trial", "slug": "acorn-trial", "audience": "https://trial.example"}


def test_an_owner_makes_an_environment_that_works_before_anybody_configures_it(world, office):
    answer = office.api("owner", "POST", "environments", {**NEW, "colour": "purple"}, environment=world.production)
    assert answer.status_code == 201, answer.content
    made = Environment.objects.get(slug="acorn-trial")
    assert answer.json() == {
        "id": str(made.id),
        "slug": "acorn-trial",
        "name": "Trial",
        "colour": "purple",
        "issuer": "http://localhost:8000/e/acorn-trial",
        "token_prefix": "acorn_trial",
        "signing_algorithm": "ES256",
        "strict_ceiling": True,
        "reauthenticate_after": 900,
        "embedding_origins": [],
        "api_identifiers": ["https://trial.example"],
        "default_role": None,
        "suspended_at": None,
        "deleted_at": None,
        "created_at": iso(made.created_at),
    }
    assert answer.headers["Location"] == "/api/v1/environments/acorn-trial"
    assert made.vendor == world.vendor
    assert (made.roles.count(), TokenType.objects.filter(environment=made).count()) == (5, 6)
    assert Client().get("/e/acorn-trial/jwks.json").json()["keys"] == [
        SigningKey.objects.get(environment=made).public_jwk
    ]
    assert office.page("owner", made).status_code == 200
    assert (event("environment.created").environment_id, event("environment.created").actor_id) == (
        made.id,
        office.people["owner"].user_id,
    )


def test_who_makes_an_environment_can_open_it_even_if_they_cover_listed_ones_only(world):
    member = VendorMembershipFactory(vendor=world.vendor, role="owner", in_all_environments=False)
    VendorMembershipEnvironment.objects.create(
        vendor_membership=member, environment=world.production, vendor=world.vendor
    )
    world.office.people["lister"] = member
    path = "settings/environments/new/"
    answer = world.office.post("lister", world.production, path, **NEW, colour="grey")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/console/acorn-trial/")
    assert world.office.page("lister", Environment.objects.get(slug="acorn-trial")).status_code == 200
    assert world.office.page("lister", world.staging).status_code == 404


BAD = [
    pytest.param({"name": "production"}, 409, "name", id="name-taken-in-another-case"),
    pytest.param({"name": " "}, 400, "name", id="no-name"),
    pytest.param({"slug": "Not a slug"}, 400, "slug", id="slug-is-none"),
    pytest.param({"slug": "<taken>"}, 409, "slug", id="slug-taken"),
    pytest.param({"slug": "gone"}, 409, "slug", id="slug-once-taken"),
    pytest.param({"slug": "x"}, 400, "slug", id="slug-that-makes-no-prefix"),
    pytest.param({"token_prefix": "<taken>"}, 409, "token_prefix", id="prefix-taken"),
    pytest.param({"token_prefix": "No"}, 400, "token_prefix", id="prefix-is-none"),
    pytest.param({"audience": "/relative"}, 400, "audience", id="audience-is-relative"),
    pytest.param({"audience": "https://api.example/#part"}, 400, "audience", id="audience-has-a-fragment"),
    pytest.param({"audience": "https://api.example/a b"}, 400, "audience", id="audience-has-a-blank"),
    pytest.param({"colour": "pink"}, 400, "colour", id="colour-unknown"),
]


@pytest.mark.parametrize(("change", "status", "field"), BAD)
def test_a_new_environment_that_makes_no_sense_is_refused_at_its_field(world, office, change, status, field):
    TakenSlug.objects.create(kind="environment", slug="gone")
    # As it is born without a prefix: whoever takes its slug would take its prefix too.
    world.staging.token_prefix = world.staging.slug.replace("-", "_")
    world.staging.save(update_fields=["token_prefix"])
    taken = {"slug": world.staging.slug, "token_prefix": world.staging.token_prefix}
    change = {name: taken[name] if value == "<taken>" else value for name, value in change.items()}
    before = everything_stored(but=TRACES)
    answer = office.api("owner", "POST", "environments", {**NEW, **change}, environment=world.production)
    assert (answer.status_code, list(answer.json()["errors"])) == (status, [field]), answer.content
    page = office.post("owner", world.production, "settings/environments/new/", **{**NEW, "colour": "red", **change})
    assert page.status_code == 422
    assert 'value="acorn-trial"' in page.content.decode() or "slug" in change
    assert everything_stored(but=TRACES) == before


def _owner(world):
    member = world.office.people["owner"]
    return ConsolePrincipal(
        actor=Actor(kind=ActorKind.USER, id=member.user_id, label=str(member.user)),
        environment=world.production,
        tenant=None,
        permissions=frozenset(),
        vendor_membership=member,
    )


@pytest.mark.parametrize(
    ("who", "status", "code"),
    [("owner", 201, None), ("admin", 403, "owners_only"), ("auditor", 403, "insufficient_scope")],
)
def test_only_an_owner_makes_an_environment(world, office, who, status, code):
    before = Environment.objects.count()
    answer = office.api(who, "POST", "environments", NEW, environment=world.production)
    assert (answer.status_code, answer.json().get("code")) == (status, code)
    assert Environment.objects.count() == before + (status == 201)


ACTS = [
    pytest.param("POST", "environments", NEW, 403, "out_of_reach", id="make"),
    pytest.param("PATCH", "environments/{slug}", {"name": "Live"}, 200, None, id="change"),
    pytest.param("PATCH", "environments/{slug}", {"strict_ceiling": False}, 403, "owners_and_admins_only", id="loosen"),
    pytest.param(
        "PATCH", "environments/{slug}", {"reauthenticate_after": 0}, 403, "owners_and_admins_only", id="unasked"
    ),
    pytest.param("POST", "environments/{slug}/copy", {"from": "{staging}"}, 403, "out_of_reach", id="copy"),
    pytest.param("DELETE", "environments/{slug}", {"name": "Production"}, 403, "owners_only", id="delete"),
    pytest.param("POST", "environments/{slug}/suspend", None, 200, None, id="suspend"),
]


@pytest.mark.parametrize(("verb", "path", "body", "status", "code"), ACTS)
def test_what_a_token_that_holds_everything_may_do_to_its_environment(world, acme, verb, path, body, status, code):
    """It changes and suspends; what ends the environment, makes another or widens what it may grant is for people."""
    keys = ["environments:read", "environments:create", "environments:delete"]
    token = acme.issue_for_environment(roles=(), permissions=keys).plaintext
    slugs = {"slug": world.production.slug, "staging": world.staging.slug}
    body = body and {name: value.format(**slugs) if isinstance(value, str) else value for name, value in body.items()}
    answer = Client().generic(
        verb, f"/api/v1/{path.format(**slugs)}", _json(body), content_type="application/json", headers=bearer(token)
    )
    assert (answer.status_code, answer.json().get("code")) == (status, code), answer.content


def _json(body):
    return "" if body is None else json.dumps(body)


def test_the_settings_change_with_the_version_that_was_seen(world, office):
    path = f"environments/{world.production.slug}"
    seen = office.api("owner", "GET", path).headers["ETag"]
    change = {
        "name": "Live",
        "colour": "red",
        "strict_ceiling": False,
        "reauthenticate_after": 0,
        "embedding_origins": ["https://app.bolt.example", "http://localhost:3000"],
        "signing_algorithm": "EdDSA",
        "api_identifiers": ["https://b.example", "https://a.example"],
        "default_role": "viewer",
    }
    answer = office.api("admin", "PATCH", path, change, **{"If-Match": seen})
    assert answer.status_code == 200, answer.content
    assert {name: answer.json()[name] for name in change} == change
    assert answer.headers["ETag"] != seen
    before = everything_stored(but=TRACES)
    stale = office.api("owner", "PATCH", path, {"name": "Mine"}, **{"If-Match": seen})
    assert (stale.status_code, stale.json()["code"]) == (412, "stale")
    assert everything_stored(but=TRACES) == before
    recorded = event("environment.edited")
    assert recorded.before["name"] == "Production"
    assert recorded.after == {**change, "suspended_at": None, "deleted_at": None}


def test_a_stale_form_keeps_what_was_typed_and_can_be_sent_again_knowingly(world, office):
    browser = office.browser("owner")
    hidden = office.hidden(browser, world.production, "settings/")
    office.api("admin", "PATCH", f"environments/{world.production.slug}", {"colour": "teal"})
    typed = {
        **hidden, "name": "Live", "colour": "red", "api_identifiers": "https://a.example", "signing_algorithm": "ES256",
        "reauthenticate_after_0": "15", "reauthenticate_after_1": "60",
    }  # fmt: skip
    url = office.url(world.production, "settings/")
    stale = browser.post(url, typed)
    page = stale.content.decode()
    assert stale.status_code == 422
    assert 'value="Live"' in page
    assert "Somebody has changed this" in page
    assert Environment.objects.get(pk=world.production.pk).name == "Production"
    assert browser.post(url, {**typed, "version": _version(page)}).status_code == 302
    assert Environment.objects.get(pk=world.production.pk).name == "Live"


def _version(page):
    return re.search(r'name="version" value="(\w+)"', page)[1]


@pytest.mark.parametrize(
    ("change", "field", "status"),
    [
        ({"name": "STAGING"}, "name", 409),
        ({"colour": "pink"}, "colour", 400),
        ({"api_identifiers": []}, "api_identifiers", 400),
        ({"api_identifiers": ["no uri"]}, "api_identifiers", 400),
        ({"api_identifiers": [f"https://{n}.example" for n in range(21)]}, "api_identifiers", 400),
        ({"default_role": "nobody"}, "default_role", 400),
        ({"default_role": "own:robots"}, "default_role", 400),
        ({"slug": "other"}, "slug", 400),
        *(({"reauthenticate_after": seconds}, "reauthenticate_after", 400) for seconds in (-1, 1, 59, 86_401)),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_at_its_field(world, office, change, field, status):
    Role.objects.create(
        environment=world.production, tenant=world.acme.tenant, key="own:robots", name="Robots", level=1
    )
    before = everything_stored(but=TRACES)
    answer = office.api("owner", "PATCH", f"environments/{world.production.slug}", change)
    assert answer.status_code == status
    assert [name.partition(".")[0] for name in answer.json()["errors"]] == [field]
    assert everything_stored(but=TRACES) == before


def test_the_default_identifier_is_the_audience_of_new_jwts(world, office, acme):
    client = acme.issue("admin", kind="client_credentials", roles=["viewer"])
    change = {"api_identifiers": ["https://new.example", world.production.api_identifiers.get().uri]}
    assert office.api("owner", "PATCH", f"environments/{world.production.slug}", change).status_code == 200
    jwt = jwt_of(Client(), client)
    assert claims_of(jwt)["aud"] == "https://new.example"
    assert alive(jwt) == [200]


@pytest.mark.parametrize("how", ["suspend", "delete"])
def test_in_a_stopped_environment_nothing_works_and_afterwards_all_but_the_old_jwts(world, office, acme, how):
    client = acme.issue("admin", kind="client_credentials", roles=["viewer"])
    opaque = acme.issue("admin", name="Opaque").plaintext
    jwt = jwt_of(Client(), client)
    assert alive(opaque, jwt) == [200, 200]
    path = f"environments/{world.production.slug}"
    stop, resume = {
        "suspend": (("POST", f"{path}/suspend", None), ("POST", f"{path}/reinstate", None)),
        "delete": (("DELETE", path, {"name": "Production"}), ("POST", f"{path}/restore", None)),
    }[how]
    assert office.api("owner", *stop).status_code == 200
    assert alive(opaque, jwt) == [401, 401]
    assert grant(Client(), client).json()["error"] == "unauthorized_client"
    assert acme.browser("admin").get(acme.url()).status_code == 404
    assert ApiToken.objects.filter(environment=world.production).usable(at=timezone.now()).count() == 0
    assert Client().get(f"/e/{world.production.slug}/jwks.json").status_code == (200 if how == "suspend" else 404)
    page = office.page("owner", world.production)
    assert page.status_code == 200
    assert f"This environment is {'suspended' if how == 'suspend' else 'deleted'}." in page.content.decode()
    assert office.api("owner", *resume).status_code == 200
    assert alive(opaque, jwt, jwt_of(Client(), client)) == [200, 401, 200]


@pytest.mark.parametrize(
    ("before", "verb", "path", "body", "code"),
    [
        ({}, "POST", "/reinstate", None, "already_so"),
        ({}, "POST", "/restore", None, "already_so"),
        ({"suspended_at": 1}, "POST", "/suspend", None, "already_so"),
        ({"deleted_at": 1}, "DELETE", "", {"name": "Production"}, "already_so"),
        ({"deleted_at": 1}, "PATCH", "", {"name": "Live"}, "deleted"),
        ({"deleted_at": 1}, "POST", "/suspend", None, "deleted"),
        ({"deleted_at": 1, "suspended_at": 1}, "POST", "/reinstate", None, "deleted"),
        ({"deleted_at": 72}, "POST", "/restore", None, "too_late"),
    ],
)
def test_what_does_not_fit_its_state_is_refused_and_changes_nothing(world, office, before, verb, path, body, code):
    times = {name: timezone.now() - timedelta(hours=hours) for name, hours in before.items()}
    Environment.objects.filter(pk=world.production.pk).update(**times)
    stored = everything_stored(but=TRACES)
    answer = office.api("owner", verb, f"environments/{world.production.slug}{path}", body)
    assert (answer.status_code, answer.json()["code"]) == (409, code)
    assert everything_stored(but=TRACES) == stored


def test_just_before_72_hours_have_passed_it_can_be_restored_and_stays_suspended_if_it_was(world, office):
    now = timezone.now()
    deleted = now - timedelta(hours=71, minutes=59)
    Environment.objects.filter(pk=world.production.pk).update(deleted_at=deleted, suspended_at=now)
    answer = office.api("owner", "POST", f"environments/{world.production.slug}/restore")
    assert (answer.status_code, answer.json()["deleted_at"]) == (200, None)
    assert answer.json()["suspended_at"] is not None


@pytest.mark.parametrize("typed", ["production", "Staging", ""])
def test_an_environment_is_deleted_by_its_exact_name_only(world, office, typed):
    before = everything_stored(but=TRACES)
    answer = office.api("owner", "DELETE", f"environments/{world.production.slug}", {"name": typed})
    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["name"])
    page = office.post("owner", world.production, "settings/delete/", name=typed)
    assert page.status_code == 422
    assert everything_stored(but=TRACES) == before


def test_only_an_owner_deletes_and_restores(world, office):
    body = {"name": "Production"}
    path = f"environments/{world.production.slug}"
    assert office.api("admin", "DELETE", path, body).json()["code"] == "owners_only"
    assert office.page("admin", world.production, "settings/delete/").status_code == 403
    assert office.api("owner", "DELETE", path, body).status_code == 200
    assert office.api("admin", "POST", f"{path}/restore").json()["code"] == "owners_only"


def test_the_last_environment_stays(world, office):
    assert office.api("owner", "DELETE", f"environments/{world.staging.slug}", {"name": "Staging"}).status_code == 200
    answer = office.api("owner", "DELETE", f"environments/{world.production.slug}", {"name": "Production"})
    assert (answer.status_code, answer.json()["code"]) == (409, "last_environment")


def test_what_is_suspended_leaves_an_event_with_before_and_after(world, office):
    office.api("admin", "POST", f"environments/{world.production.slug}/suspend")
    recorded = event("environment.suspended")
    assert recorded.before["suspended_at"] is None
    assert recorded.after["suspended_at"] is not None


def test_the_list_has_what_one_covers_and_takes_as_many_queries_for_many_as_for_few(
    world, office, django_assert_max_num_queries
):
    listed = office.api("auditor", "GET", "environments").json()["results"]
    assert {row["slug"] for row in listed} == {world.production.slug, world.staging.slug}
    token = world.acme.issue_for_environment().plaintext
    own = Client().get("/api/v1/environments", headers=bearer(token)).json()["results"]
    assert [row["slug"] for row in own] == [world.production.slug]
    for number in range(6):
        environments.create(
            by=_owner(world), name=f"E{number}", slug=f"e-{number}", audience="https://e.example", at=timezone.now()
        )
    browser = office.browser("owner")
    with django_assert_max_num_queries(6):
        assert len(browser.get("/api/v1/environments").json()["results"]) == 8


def test_a_jwt_bound_to_one_tenant_reaches_nothing_of_the_whole_environment(world, acme):
    """R2: whatever its token holds."""
    nouns = ("environments", "tenants", "signing-keys")
    everything = [f"{noun}:{act}" for noun in nouns for act in ("read", "create", "delete")]
    client = acme.issue_for_environment(kind="client_credentials", roles=(), permissions=everything)
    jwt = jwt_of(Client(), client, tenant=str(acme.tenant.id))
    before = everything_stored(but=TRACES)
    for verb, path, body in (
        ("GET", "environments", None),
        ("GET", f"environments/{world.production.slug}", None),
        ("PATCH", f"environments/{world.production.slug}", {"name": "Live"}),
        ("POST", f"environments/{world.production.slug}/suspend", None),
        ("POST", "tenants", {"name": "New", "slug": "new"}),
        ("PATCH", f"tenants/{acme.tenant.id}", {"name": "New"}),
        ("POST", f"tenants/{acme.tenant.id}/suspend", None),
        ("GET", "signing-keys", None),
        ("POST", "signing-keys", None),
    ):
        answer = Client().generic(
            verb, f"/api/v1/{path}", _json(body), content_type="application/json", headers=bearer(jwt)
        )
        assert (answer.status_code, answer.json()["code"]) == (403, "out_of_reach"), (verb, path)
    foreign = Client().get(f"/api/v1/tenants/{world.globex.tenant.id}", headers=bearer(jwt))
    listed = Client().get("/api/v1/tenants", headers=bearer(jwt)).json()["results"]
    assert (foreign.status_code, [row["id"] for row in listed]) == (404, [str(acme.tenant.id)])
    assert everything_stored(but=TRACES) == before


def test_every_row_of_the_environments_doors_names_what_a_reader_lacks_when_it_changes_something():
    assert [row for row in ENVIRONMENT_API if row[0] not in {"GET", "HEAD"} and row[4] is None] == []
