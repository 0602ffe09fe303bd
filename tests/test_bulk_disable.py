"""Stopping many tokens at once: never by an empty filter, never out of reach, with the permission for each owner's."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apitokens.governance import bulk
from apitokens.models import ApiToken, TokenType
from apitokens.principals import system
from audit.models import AuditEvent
from tests.answers import problem
from tests.cast import bearer, everything_stored, grant, jwt_of

ALL = "/api/v1/tokens/disable-all"


@pytest.fixture
def made(world):
    acme = world.acme
    return {
        "backend": acme.issue_for_environment(name="backend", kind="client_credentials"),
        "acme": acme.issue("admin", name="acme"),
        "acme client": acme.issue("admin", name="acme client", kind="client_credentials", roles=["admin"]),
        "ada's": acme.issue("admin", name="ada's", owner="user"),
        "mo's": acme.issue("member", name="mo's", owner="user"),
        "globex": world.globex.issue("admin", name="globex"),
        "staging": world.acme_staging.issue("admin", name="staging"),
    }


def stopped():
    return set(ApiToken.objects.filter(disabled_at__isnull=False).values_list("name", flat=True))


def as_person(world, role, body, query=""):
    return world.acme.api(role, "POST", f"tokens/disable-all?tenant={world.acme.tenant.id}{query}", body)


def as_vendor(world, role, body, query=""):
    return world.office.api(role, "POST", f"tokens/disable-all{query}", body, environment=world.production)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"all_tenants": True, "owner": "tenant"}, {"acme", "acme client", "globex"}),
        ({"all_tenants": True, "kind": "client_credentials"}, {"backend", "acme client"}),
        ({"all_tenants": True, "role": "admin"}, {"acme client"}),
        ({"all_tenants": True, "q": "ACME"}, {"acme", "acme client"}),
        ({"all_tenants": True, "state": "out_of_policy"}, {"ada's", "mo's"}),
        ({"all_tenants": True, "creator": "ada"}, {"acme", "acme client", "ada's"}),
        ({"all_tenants": True, "role": "nobody"}, set()),
        ({"tenant": "acme"}, {"acme", "acme client", "ada's", "mo's"}),
        ({"tenant": "external"}, {"acme", "acme client", "ada's", "mo's"}),
        ({"tenant": "acme", "owner": "user"}, {"ada's", "mo's"}),
        ({"owner": "environment"}, {"backend"}),
    ],
)
def test_a_dry_run_lists_what_is_then_disabled(world, made, body, expected):
    acme = world.acme
    TokenType.objects.filter(owner="user").update(requires_ip_allowlist=True)
    names = {"acme": str(acme.tenant.id), "external": acme.tenant.external_id}
    body = {**body, **({"tenant": names[body["tenant"]]} if "tenant" in body else {})}
    body |= {"creator": str(acme.people["admin"].user_id)} if "creator" in body else {}
    before = everything_stored(but=("django_session", "accounts_user"))
    listed = as_vendor(world, "admin", body, "?dry_run=true")
    assert listed.status_code == 200, listed.content
    assert everything_stored(but=("django_session", "accounts_user")) == before
    assert listed.json()["count"] == len(expected)
    assert {row["name"] for row in listed.json()["tokens"]} == expected
    assert as_vendor(world, "admin", body).json() == {"disabled": len(expected), "left": 0}
    assert stopped() == expected
    events = AuditEvent.objects.filter(verb="apitoken.disabled")
    assert {event.target_id for event in events} == {made[name].token.id for name in expected}
    tenants = {made[name].token.id: made[name].token.tenant_id for name in expected}
    assert {event.target_id: event.tenant_id for event in events} == tenants
    assert as_vendor(world, "admin", body).json() == {"disabled": 0, "left": 0}
    assert AuditEvent.objects.filter(verb="apitoken.disabled").count() == len(expected)


def test_jwts_of_what_was_disabled_stay_dead(world, made, machine):
    jwt = jwt_of(machine, made["acme client"])
    assert as_vendor(world, "admin", {"all_tenants": True, "q": "acme client"}).json()["disabled"] == 1
    ApiToken.objects.update(disabled_at=None)
    assert machine.get("/api/v1/token/self", headers=bearer(jwt)).status_code == 401
    assert grant(machine, made["acme client"]).status_code == 200


@pytest.mark.parametrize("query", ["", "?dry_run=true"])
def test_an_empty_filter_is_refused(world, made, query):
    message = "Say which tokens: a filter that is empty would stop every one."
    expected = problem(400, "nothing_chosen", message, errors={"filter": [message]})
    assert as_vendor(world, "owner", {"all_tenants": True}, query).json() == expected
    message = "Name the tenant, by its id or external id."
    expected = problem(400, "tenant_missing", message, errors={"tenant": [message]})
    for body in ({}, {"kind": "access_token"}):
        assert as_vendor(world, "owner", body, query).json() == expected
    assert stopped() == set()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"owner": "nobody"}, "owner"), ({"kind": "x"}, "kind"), ({"state": "x"}, "state"),
        ({"creator": "x"}, "creator"),
        ({"q": "x" * 101}, "q"), ({"unknown": 1}, "unknown"), ({"role": ""}, "role"),
    ],
)  # fmt: skip
def test_what_no_token_can_match_is_a_mistake(world, made, body, field):
    answer = as_vendor(world, "owner", {"all_tenants": True, **body})
    assert (answer.status_code, list(answer.json()["errors"])) == (400, [field])
    assert stopped() == set()


def test_a_secret_is_no_filter(world, made):
    answer = as_vendor(world, "owner", {"all_tenants": True, "q": made["acme"].plaintext})
    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["q"])
    assert made["acme"].plaintext not in answer.content.decode()


@pytest.mark.parametrize(
    ("role", "body", "expected", "missing"),
    [
        ("viewer", {"owner": "tenant"}, None, "apitokens:delete"),
        ("member", {"owner": "tenant"}, {"acme", "acme client"}, None),
        ("member", {"owner": "user"}, {"mo's"}, None),
        ("member", {"kind": "access_token"}, {"acme", "mo's"}, None),
        ("admin", {"owner": "user"}, {"ada's", "mo's"}, None),
        ("admin", {"kind": "access_token"}, {"acme", "ada's", "mo's"}, None),
        ("owner", {"owner": "environment"}, set(), None),
        ("owner", {"all_tenants": True, "owner": "tenant"}, {"acme", "acme client"}, None),
    ],
)
def test_a_member_stops_what_they_may_in_their_own_tenant(world, made, role, body, expected, missing):
    answer = as_person(world, role, body)
    assert answer.status_code == (403 if missing else 200), answer.content
    assert stopped() == (expected or set())
    assert answer.json().get("permission") == missing
    refused = AuditEvent.objects.filter(outcome="refused").values_list("verb", "reason")
    assert list(refused) == ([("apitoken.disabled", "insufficient_scope")] if missing else [])


@pytest.mark.parametrize(("role", "status"), [("owner", 200), ("admin", 200), ("auditor", 403)])
@pytest.mark.parametrize("query", ["", "?dry_run=true"])
def test_an_auditor_stops_nothing(world, made, role, status, query):
    assert as_vendor(world, role, {"all_tenants": True, "owner": "user"}, query).status_code == status
    assert bool(stopped()) == (status == 200 and not query)


FAMILIES = ["apitokens:delete", "personal-apitokens:delete", "environment-tokens:delete"]


@pytest.mark.parametrize("missing", [None, *FAMILIES])
def test_it_takes_the_permission_for_each_owners_tokens_it_touches(world, made, machine, missing):
    permissions = [permission for permission in FAMILIES if permission != missing]
    caller = world.acme.issue_for_environment(name="Caller", roles=[], permissions=permissions)
    body = {"all_tenants": True, "state": "usable"}
    answer = machine.post(ALL, body, content_type="application/json", headers=bearer(caller.plaintext))
    assert (answer.status_code, answer.json().get("permission")) == (403 if missing else 200, missing)
    assert stopped() == (set() if missing else {"Caller", *made} - {"staging"})


def test_a_jwt_bound_to_a_tenant_reaches_no_further(world, made, machine):
    jwt = jwt_of(machine, made["backend"], tenant=str(world.acme.tenant.id))
    body = {"all_tenants": True, "state": "usable"}
    answer = machine.post(ALL, body, content_type="application/json", headers=bearer(jwt))
    assert answer.json() == {"disabled": 4, "left": 0}
    assert stopped() == {"acme", "acme client", "ada's", "mo's"}


def test_a_call_stops_no_more_than_its_bound_and_says_how_many_are_left(world, monkeypatch):
    for number in range(5):
        world.acme.issue("admin", name=f"CI {number}")
    monkeypatch.setattr(bulk, "MOST", 3)
    body = {"all_tenants": True, "owner": "tenant"}
    assert as_vendor(world, "admin", body).json() == {"disabled": 3, "left": 2}
    assert as_vendor(world, "admin", body).json() == {"disabled": 2, "left": 0}
    assert len(stopped()) == 5


def test_it_takes_as_many_queries_for_fifty_tokens_as_for_five(world):
    def queries(numbers):
        for number in numbers:
            world.acme.issue("admin", name=f"CI {number}")
        chosen = bulk.Chosen(owner="tenant")
        with CaptureQueriesContext(connection) as captured:
            assert bulk.disable_all(by=system(world.production), chosen=chosen, at=timezone.now()) == len(numbers)
        return len(captured)

    assert queries(range(5)) == queries(range(5, 55))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("kind=client_credentials", {"acme client"}), ("role=admin", {"acme client"}), ("state=disabled", {"acme"}),
        ("state=usable", {"acme client"}), ("state=expired", set()), ("q=acme%20c", {"acme client"}),
        ("q=ACME", {"acme", "acme client"}), ("owner=tenant&q=ada", set()), ("parent=000000000000", set()),
        ("creator={ada}", {"acme", "acme client"}), ("creator={mo}", set()),
    ],
)  # fmt: skip
def test_a_list_is_narrowed_by_the_same_filters(world, made, query, expected):
    ApiToken.objects.filter(name="acme").update(disabled_at=timezone.now())
    people = world.acme.people
    query = query.format(ada=people["admin"].user_id, mo=people["member"].user_id)
    answer = world.acme.api("owner", "GET", f"tokens?tenant={world.acme.tenant.id}&owner=tenant&{query}")
    assert {row["name"] for row in answer.json()["results"]} == expected


@pytest.mark.parametrize("query", ["state=x", "kind=x", "owner=x", "creator=x", f"q={'x' * 101}"])
def test_a_list_says_what_is_no_filter(acme, query):
    answer = acme.api("admin", "GET", f"tokens?tenant={acme.tenant.id}&{query}")
    assert (answer.status_code, list(answer.json()["errors"])) == (400, [query.split("=")[0]])


def test_the_vendors_list_the_tokens_of_all_tenants_when_they_say_so(world, made, machine):
    listed = world.office.api("auditor", "GET", "tokens?all_tenants=true", environment=world.production).json()
    assert {row["name"] for row in listed["results"]} == {*made} - {"staging"}
    missing = world.office.api("owner", "GET", "tokens", environment=world.production)
    assert (missing.status_code, missing.json()["code"]) == (400, "tenant_missing")
    listed = world.acme.api("admin", "GET", f"tokens?tenant={world.acme.tenant.id}&all_tenants=true").json()
    assert {row["name"] for row in listed["results"]} == {"acme", "acme client", "ada's", "mo's"}


def test_a_parents_children_are_listed_and_go_with_it(world, machine):
    parent = world.acme.issue_for_environment(name="Parent")
    headers = bearer(parent.plaintext)
    sent = {"name": "Child", "kind": "access_token", "roles": ["viewer"], "tenant": str(world.acme.tenant.id)}
    child = machine.post("/api/v1/tokens", sent, content_type="application/json", headers=headers).json()
    world.acme.issue("admin", name="Another")
    path = f"/api/v1/tokens?tenant={world.acme.tenant.id}&parent={parent.token.token_id}"
    assert [row["id"] for row in machine.get(path, headers=headers).json()["results"]] == [child["id"]]
    answer = machine.delete(f"/api/v1/tokens/{parent.token.token_id}?compromised=true", headers=headers)
    assert answer.status_code == 204
    assert [token.name for token in ApiToken.objects.all()] == ["Another"]


def test_jwts_are_ended_by_the_api_too(world, made, machine):
    jwt = jwt_of(machine, made["acme client"])
    answer = world.acme.api("admin", "POST", f"tokens/{made['acme client'].token.token_id}/end-jwts")
    assert (answer.status_code, answer.json()["state"]) == (200, "usable")
    assert machine.get("/api/v1/token/self", headers=bearer(jwt)).status_code == 401
    refused = world.acme.api("viewer", "POST", f"tokens/{made['acme client'].token.token_id}/end-jwts")
    assert (refused.status_code, refused.json()["permission"]) == (403, "apitokens:delete")
