"""`/api/v1/tokens`: what people make, list, change and end there; whole bodies, and an event for each change."""

import html
import json
from datetime import datetime, timedelta

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apitokens import setup
from apitokens.models import ApiToken, Secret, TokenType
from apitokens.setup import give_role
from audit.models import AuditEvent, Outcome
from tenants.models import Tenant
from tests.answers import AT, body, problem, version
from tests.cast import bearer, events, everything_stored, post_as_ada, shown
from tests.factories import MembershipFactory

VIEWER = sorted([*setup.VIEWER, "reports:read"])
NEW = {"name": "CI", "kind": "access_token", "roles": ["viewer"]}
LEVEL = "its level 40 is above your own, 30."


@pytest.fixture
def frozen():
    with time_machine.travel(AT, tick=False) as clock:
        yield clock


@pytest.mark.parametrize("kind", ["access_token", "client_credentials"])
def test_a_person_makes_a_token_and_is_shown_its_secret_once(frozen, acme, machine, kind):
    answer = acme.api("admin", "POST", f"tokens?tenant={acme.tenant.id}", {**NEW, "kind": kind})
    token = ApiToken.objects.get()
    made = answer.json()
    plaintext = made.pop("access_token" if kind == "access_token" else "client_secret")
    client_id = None if kind == "access_token" else token.client_id
    known = {"id": token.token_id, "client_id": client_id, "kind": kind, "last_four": plaintext[-4:], "flags": []}
    assert (answer.status_code, made) == (201, body(acme, **known))
    assert answer.headers["Location"] == f"/api/v1/tokens/{token.token_id}"
    assert answer.headers["Cache-Control"] == "no-store"
    read = acme.api("admin", "GET", f"tokens/{token.token_id}")
    assert read.json() == made
    del made["flags"]  # which are for those who see the other members
    listed = acme.api("viewer", "GET", f"tokens?tenant={acme.tenant.external_id}")
    assert listed.json() == {"next": None, "previous": None, "results": [made]}
    assert [table for table, rows in everything_stored().items() if plaintext in str(rows)] == []


def test_what_is_given_changes_and_the_rest_stays(frozen, acme):
    token = acme.issue("admin").token
    path = f"tokens/{token.token_id}"
    before = acme.api("admin", "GET", path).json()
    changes = [
        ({"name": "Renamed"}, {"name": "Renamed"}),
        ({"description": "Nightly"}, {"description": "Nightly"}),
        ({"expires_in": 60}, {"expires_at": "2031-05-01T12:01:00Z"}),
        ({"expires_at": None}, {"expires_at": None}),
        (
            {"permissions": ["reports:read"]},
            {"roles": [], "granted": ["reports:read"], "permissions": ["reports:read"]},
        ),
        ({"roles": ["viewer"]}, {"roles": ["viewer"], "granted": VIEWER, "permissions": VIEWER}),
    ]
    for sent, changed in changes:
        answer = acme.api("admin", "PATCH", path, sent)
        before |= changed
        assert (answer.status_code, answer.json()) == (200, before)
    done = events(target_id=token.id, verb="apitoken.edited")
    assert done == [("apitoken.edited", "done", "")] * len(changes)
    last = AuditEvent.objects.filter(verb="apitoken.edited").order_by("id").last()
    assert (last.before["granted"], last.after["granted"]) == (["reports:read"], VIEWER)
    assert last.actor_id == acme.people["admin"].user_id


def test_what_somebody_else_has_changed_meanwhile_is_not_changed_by_an_old_picture_of_it(acme):
    path = f"tokens/{acme.issue('admin').token.token_id}"
    seen = acme.api("admin", "GET", path)["ETag"]
    first = acme.api("owner", "PATCH", path, {"name": "Theirs"}, **{"If-Match": seen})
    stale = acme.api("admin", "PATCH", path, {"name": "Mine"}, **{"If-Match": seen})
    assert (first.status_code, stale.status_code, stale.json()["code"]) == (200, 412, "stale")
    assert acme.api("admin", "GET", path).json()["name"] == "Theirs"
    assert acme.api("admin", "PATCH", path, {"name": "Mine"}, **{"If-Match": first["ETag"]}).status_code == 200


def test_disabled_it_stops_enabled_it_works_deleted_it_is_gone(frozen, acme, machine):
    issued = acme.issue("admin")
    path, headers = f"tokens/{issued.token.token_id}", bearer(issued.plaintext)
    before = acme.api("admin", "GET", path).json()
    disabled = acme.api("admin", "POST", f"{path}/disable")
    assert disabled.json() == {**before, "state": "disabled", "disabled_at": "2031-05-01T12:00:00Z"}
    assert machine.get("/api/v1/token/self", headers=headers).status_code == 401
    assert acme.api("admin", "POST", f"{path}/disable").json() == disabled.json()
    assert acme.api("admin", "POST", f"{path}/enable").json() == before
    assert machine.get("/api/v1/token/self", headers=headers).status_code == 200
    gone = acme.api("admin", "DELETE", path)
    assert (gone.status_code, gone.content) == (204, b"")
    assert acme.api("admin", "GET", path).status_code == 404
    assert machine.get("/api/v1/token/self", headers=headers).status_code == 401
    assert (ApiToken.objects.count(), Secret.objects.count()) == (0, 0)
    verbs = [verb for verb, _, _ in events(target_id=issued.token.id)]
    assert verbs == ["apitoken.issued", "apitoken.disabled", "apitoken.enabled", "apitoken.deleted"]
    assert AuditEvent.objects.get(verb="apitoken.deleted").before == {
        "token_id": issued.token.token_id,
        "name": "CI",
        "owner": "tenant",
        "last_four": issued.plaintext[-4:],
        "creator": str(acme.people["admin"].user_id),
    }


def test_a_new_secret_without_an_overlap_stops_the_old_one(frozen, acme, machine):
    issued = acme.issue("admin")
    before = acme.api("admin", "GET", f"tokens/{issued.token.token_id}").json()
    answer = acme.api("admin", "POST", f"tokens/{issued.token.token_id}/rotate", {"overlap": 0})
    made = answer.json()
    plaintext = made.pop("access_token")
    assert (answer.status_code, made) == (
        201,
        {**before, "last_four": plaintext[-4:], "secrets": [version(plaintext[-4:])]},
    )
    assert answer.headers["Cache-Control"] == "no-store"
    for secret, status in ((issued.plaintext, 401), (plaintext, 200)):
        assert machine.get("/api/v1/token/self", headers=bearer(secret)).status_code == status
    assert events(verb="apitoken.rotated") == [("apitoken.rotated", "done", "")]


def test_a_role_above_the_ceiling_is_refused_and_recorded(acme):
    answer = acme.api("admin", "POST", f"tokens?tenant={acme.tenant.id}", {**NEW, "roles": ["viewer", "owner"]})
    message = f"You can't grant the role Owner: {LEVEL}"
    assert answer.json() == problem(403, "role_above_ceiling", message, errors={"roles": [message]}, role="owner")
    assert not ApiToken.objects.exists()
    refusal = AuditEvent.objects.get(outcome=Outcome.REFUSED)
    assert (refusal.actor_id, refusal.verb, refusal.reason, refusal.tenant_id) == (
        acme.people["admin"].user_id, "apitoken.issued", "role_above_ceiling", acme.tenant.id,
    )  # fmt: skip


@pytest.mark.parametrize(("owner", "kind"), [("tenant", "access_token"), ("user", "client_credentials")])
def test_what_the_vendor_switched_off_is_refused_by_page_and_api(acme, owner, kind):
    asked = {**NEW, "owner": owner, "kind": kind}
    TokenType.objects.filter(environment=acme.environment, owner=owner, kind=kind).update(is_enabled=False)
    message = f"Tokens of the kind {kind} with the owner {owner} are switched off here."
    answer = post_as_ada(acme, asked)
    expected = problem(403, "token_type_disabled", message, errors={"kind": [message]})
    assert (answer.status_code, answer.json()) == (403, expected)
    page = acme.make("admin", **asked)
    assert (page.status_code, message in html.unescape(page.content.decode())) == (422, True)
    assert not ApiToken.objects.exists()
    assert events(outcome="refused") == [("apitoken.issued", "refused", "token_type_disabled")] * 2
    TokenType.objects.update(is_enabled=True)
    assert (post_as_ada(acme, asked).status_code, bool(shown(acme.make("admin", **{**asked, "name": "2"})))) == (
        201,
        True,
    )


@pytest.mark.parametrize("name", ["CI", "ci", " CI ", "Über", "ÜBER"])
def test_a_name_is_taken_whatever_its_case(acme, name):
    acme.issue("admin", name="Ci")
    acme.issue("admin", name="über")
    message = f"There is a token named {name.strip()} already: choose another name."
    answer = post_as_ada(acme, {**NEW, "name": name})
    expected = problem(409, "name_taken", message, errors={"name": [message]})
    assert (answer.status_code, answer.json()) == (409, expected)
    page = acme.make("admin", **NEW | {"name": name})
    assert (page.status_code, message in page.content.decode()) == (422, True)
    assert ApiToken.objects.count() == 2
    assert post_as_ada(acme, {**NEW, "name": f"{name} 2"}).status_code == 201


def test_the_same_name_is_free_for_another_owner(world):
    world.acme.issue("admin")
    assert post_as_ada(world.globex, NEW).status_code == 201
    assert post_as_ada(world.acme, {**NEW, "owner": "user"}).status_code == 201


def test_html_in_a_description_is_text(acme):
    text = "<script>alert(1)</script> & \"quotes\""  # fmt: skip
    made = post_as_ada(acme, {**NEW, "description": text}).json()
    assert made["description"] == ApiToken.objects.get().description == text
    page = acme.browser("admin").get(acme.url(f"{made['id']}/")).content.decode()
    assert html.escape(text).replace("&#x27;", "&#39;") in page
    assert "<script>alert(1)" not in page


def test_the_quota_counts_what_is_neither_expired_nor_deleted(acme):
    TokenType.objects.filter(environment=acme.environment, owner="tenant", kind="access_token").update(quota=2)
    first = post_as_ada(acme, {**NEW, "name": "1", "expires_in": 60}).json()
    second = post_as_ada(acme, {**NEW, "name": "2"}).json()
    full = post_as_ada(acme, {**NEW, "name": "3"})
    message = "You have 2 such tokens, as many as are allowed: delete one first."
    assert (full.status_code, full.json()) == (409, problem(409, "quota_reached", message))
    page = acme.make("admin", **NEW | {"name": "3"})
    assert (page.status_code, message in page.content.decode()) == (422, True)
    assert post_as_ada(acme, {**NEW, "name": "3", "kind": "client_credentials"}).status_code == 201
    with time_machine.travel(datetime.fromisoformat(first["expires_at"]) + timedelta(seconds=1), tick=False):
        assert post_as_ada(acme, {**NEW, "name": "4"}).status_code == 201
        assert post_as_ada(acme, {**NEW, "name": "5"}).status_code == 409
        assert acme.api("admin", "DELETE", f"tokens/{second['id']}").status_code == 204
        assert post_as_ada(acme, {**NEW, "name": "5"}).status_code == 201


def test_pages_of_120_tokens_have_no_duplicate_and_cost_the_same(acme):
    for number in range(120):
        acme.issue("admin", name=f"Token {number}")
    browser = acme.browser("viewer")
    path, seen, costs = f"/api/v1/tokens?tenant={acme.tenant.id}", [], []
    while path:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            page = browser.get(path).json()
        costs.append(len(queries))
        seen += [row["id"] for row in page["results"]]
        path = page["next"]
    newest_first = ApiToken.objects.order_by("-created_at", "-id").values_list("token_id", flat=True)
    assert seen == list(newest_first)
    assert len(set(costs)) == 1
    assert len(costs) == 3
    with CaptureQueriesContext(connection) as queries:
        small = browser.get(f"/api/v1/tokens?tenant={acme.tenant.id}&page_size=1").json()
    assert (len(small["results"]), len(queries)) == (1, costs[0])
    assert len(browser.get(f"/api/v1/tokens?tenant={acme.tenant.id}&page_size=1000").json()["results"]) == 100


CHANGES = [
    ("POST", "s?tenant={1}", {**NEW, "name": "2"}, 201),
    ("PATCH", "s/{0}", {"name": "Renamed"}, 200),
    ("POST", "s/{0}/disable", None, 200),
    ("POST", "s/{0}/rotate", None, 201),
    ("DELETE", "s/{0}", None, 204),
]


@pytest.mark.parametrize(("method", "path", "sent", "status"), CHANGES)
def test_a_change_that_cannot_be_recorded_does_not_happen(acme, method, path, sent, status):
    token = acme.issue("admin").token
    browser = acme.browser("admin")
    browser.raise_request_exception = False
    acme.form(browser)
    headers = {"X-CSRFToken": browser.cookies["csrftoken"].value}
    path = f"/api/v1/token{path}".format(token.token_id, acme.tenant.id)
    unchanging = {"but": ("django_session", "audit_auditevent", "unreachable")}
    before = everything_stored(**unchanging)

    def call():
        data = json.dumps(sent or {})
        return browser.generic(method, path, data=data, content_type="application/json", headers=headers)

    _rename("audit_auditevent", "unreachable")
    # A table that is gone is a fault of the database's to SQLite, and a wrong statement of ours to PostgreSQL.
    assert call().status_code in {500, 503}
    assert everything_stored(**unchanging) == before
    _rename("unreachable", "audit_auditevent")
    assert call().status_code == status
    assert everything_stored(**unchanging) != before


def _rename(table, name):
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO {name}")


def test_a_person_in_two_tenants_of_one_external_id_names_the_tenant_by_our_id(acme, world):
    """The vendor may know one customer by the same id in two environments; guessing would reach into the wrong one."""
    acme_staging = world.acme_staging
    Tenant.objects.filter(pk=acme_staging.tenant.pk).update(external_id=acme.tenant.external_id)
    there = MembershipFactory(tenant=acme_staging.tenant, user=acme.people["owner"].user)
    give_role(there, acme_staging.role("owner"))
    answer = acme.api("owner", "GET", f"tokens?tenant={acme.tenant.external_id}")
    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["tenant"])
    assert acme.api("owner", "GET", f"tokens?tenant={acme.tenant.id}").status_code == 200
