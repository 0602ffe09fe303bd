"""The record, to read and to take away: who may, what of it, and that a file of it harms nobody who opens it."""

import csv
import io
import re
from datetime import timedelta
from html import unescape
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apitokens.pages import exports
from apitokens.pages.changes import changes
from apitokens.pages.records import FAMILIES
from apitokens.pages.rows import TRIED, VERBS
from apitokens.pages.targets import Known
from audit.models import AuditEvent, Person
from tenants.models import Invitation, Membership, Role, Tenant
from tests.cast import bearer, iso, jwt_of


def read(response):
    """The rows of a streamed CSV, as dictionaries; the cut's note is a row with one cell."""
    assert response.status_code == 200, response
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert response["Content-Disposition"].startswith('attachment; filename="')
    text = b"".join(response.streaming_content).decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


def portal(house, role, path):
    return house.browser(role).get(f"/t/{house.tenant.slug}/{path}")


@pytest.fixture
def lived(world):
    """Something done and something refused in Acme, something done in Globex and for the environment itself."""
    acme = world.acme
    world.token = acme.issue("admin", name="Made", kind="client_credentials", roles=["member"])
    refused = acme.api("member", "POST", f"tokens?tenant={acme.tenant.id}", {**NEW, "roles": ["owner"]})
    assert refused.status_code == 403
    world.disabled = acme.issue("owner", name="Stopped").token
    assert acme.api("owner", "POST", f"tokens/{world.disabled.token_id}/disable").status_code == 200
    world.globex.issue("admin", name="Elsewhere")
    world.backend = world.acme.issue_for_environment(name="Backend", kind="access_token")
    return world


NEW = {"name": "New", "kind": "access_token"}
PICKS = [
    pytest.param({}, {"apitoken.issued", "apitoken.disabled", "tenant.created"}, id="everything"),
    pytest.param({"about": "apitoken"}, {"apitoken.issued", "apitoken.disabled"}, id="about-tokens"),
    pytest.param({"about": "tenant"}, {"tenant.created"}, id="about-the-tenant"),
    pytest.param({"outcome": "refused"}, {"apitoken.issued"}, id="refused"),
    pytest.param({"by": "system"}, {"tenant.created"}, id="by-the-system"),
    pytest.param({"by": "user"}, {"apitoken.issued", "apitoken.disabled"}, id="by-people"),
    pytest.param({"by": "token"}, set(), id="by-tokens"),
    pytest.param({"until": "2020-01-01"}, set(), id="long-ago"),
    pytest.param({"since": "2999-01-01"}, set(), id="not-yet"),
]


@pytest.mark.parametrize(("asked", "verbs"), PICKS)
def test_page_and_file_show_what_is_asked_for_and_the_same(lived, asked, verbs):
    acme, browser = lived.acme, lived.acme.browser("admin")
    page = browser.get(f"/t/{acme.tenant.slug}/audit/", asked).content.decode()
    rows = read(browser.get(f"/t/{acme.tenant.slug}/audit.csv", asked))
    assert {row["verb"] for row in rows} == verbs
    assert [f'data-audit-id="{row["id"]}"' in page for row in rows] == [True] * len(rows)
    assert page.count("data-audit-id") == len(rows)
    assert {row["tenant_id"] for row in rows} <= {str(acme.tenant.id)}


@pytest.mark.parametrize(
    "asked",
    [{"about": "nonsense"}, {"by": "nobody"}, {"since": "31.31.2020"}, {"since": "2026-02-02", "until": "2026-02-01"}],
)
@pytest.mark.parametrize("path", ["audit/", "audit.csv"])
def test_a_filter_that_makes_no_sense_is_named_and_kept(lived, asked, path):
    answer = lived.acme.browser("admin").get(f"/t/{lived.acme.tenant.slug}/{path}", asked)
    page = answer.content.decode()
    assert answer.status_code == 422
    assert 'aria-invalid="true"' in page
    assert "data-audit-id" not in page


def test_every_noun_of_the_record_has_its_word():
    assert {verb.partition(".")[0] for verb in VERBS} <= set(FAMILIES)


@pytest.mark.parametrize(("role", "status"), [("owner", 200), ("admin", 200), ("member", 403), ("viewer", 403)])
@pytest.mark.parametrize("path", ["audit/", "audit.csv"])
def test_the_tenants_record_is_for_those_who_hold_its_permission(lived, role, status, path):
    assert portal(lived.acme, role, path).status_code == status
    api = lived.acme.api(role, "GET", f"events?tenant={lived.acme.tenant.id}")
    assert api.status_code == status
    if status == 403:
        assert api.json()["permission"] == "audit:read"


@pytest.mark.parametrize("role", ["owner", "admin", "auditor"])
def test_the_consoles_record_is_the_whole_environments_and_names_the_tenants(lived, office, role):
    page = office.page(role, lived.production, "audit/")
    rows = read(office.page(role, lived.production, "audit.csv"))
    assert page.status_code == 200
    assert {row["tenant"] for row in rows} == {"", "Acme", "Globex"}
    assert len(rows) == AuditEvent.objects.filter(environment_id=lived.production.id).count()
    text = page.content.decode()
    assert ("Made the token · Elsewhere" in text, " · Globex</span>" in text) == (True, True)
    asked = office.api(role, "GET", "events", environment=lived.production).json()["results"]
    assert [event["id"] for event in asked] == [row["id"] for row in rows]


def test_an_erased_person_is_a_former_member_in_page_file_and_api(lived):
    acme = lived.acme
    Person.objects.filter(pk=acme.people["owner"].user_id).delete()
    rows = [row for row in read(portal(acme, "admin", "audit.csv")) if row["verb"] == "apitoken.disabled"]
    assert [(row["actor"], row["actor_id"]) for row in rows] == [("A former member", str(acme.people["owner"].user_id))]
    asked = acme.api("admin", "GET", f"events?tenant={acme.tenant.id}&verb=apitoken.disabled").json()["results"]
    assert [event["actor"]["name"] for event in asked] == [None]


def test_an_event_in_the_api_says_who_did_what_to_what(lived):
    acme, membership = lived.acme, lived.acme.people["owner"]
    path = f"events?tenant={acme.tenant.id}&verb=apitoken.disabled"
    [event] = acme.api("admin", "GET", path).json()["results"]
    row = AuditEvent.objects.get(verb="apitoken.disabled")
    assert event == {
        "id": str(row.id),
        "at": iso(row.at),
        "verb": "apitoken.disabled",
        "outcome": "done",
        "reason": "",
        "actor": {"kind": "user", "id": str(membership.user_id), "name": str(membership.user), "on_behalf_of": None},
        "tenant": str(acme.tenant.id),
        "target": {"kind": "apitoken", "id": str(lived.disabled.id)},
        "before": None,
        "after": None,
        "ip": "127.0.0.1",
        "request_id": row.request_id,
    }


def test_the_api_finds_by_verb_actor_target_outcome_and_time(lived):
    acme = lived.acme
    before, after = timezone.now() - timedelta(hours=1), timezone.now() + timedelta(hours=1)
    owner, admin = acme.people["owner"].user_id, acme.people["admin"].user_id
    issued, disabled = "apitoken.issued", "apitoken.disabled"
    table = {
        "verb=apitoken": {issued, disabled},
        f"verb={issued}&outcome=done": {issued},
        f"target={lived.disabled.id}": {issued, disabled},
        f"target={lived.disabled.token_id}": {issued, disabled},
        "target=000000000000": set(),
        f"actor={owner}": {issued, disabled},
        f"actor={admin}": {issued},
        f"actor={uuid4()}": set(),
        "actor_kind=system": {"tenant.created"},
        f"since={after:%Y-%m-%dT%H:%M:%SZ}": set(),
        f"until={before:%Y-%m-%dT%H:%M:%SZ}": set(),
        f"since={before:%Y-%m-%dT%H:%M:%SZ}&until={after:%Y-%m-%dT%H:%M:%SZ}": {issued, disabled, "tenant.created"},
    }
    found = {}
    for asked in table:
        results = acme.api("admin", "GET", f"events?tenant={acme.tenant.id}&{asked}").json()["results"]
        found[asked] = {event["verb"] for event in results}
    assert found == table


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ("verb=a b", "verb"),
        ("actor=Olga", "actor"),
        ("target=*", "target"),
        ("outcome=perhaps", "outcome"),
        ("since=yesterday", "since"),
        ("actor_kind=robot", "actor_kind"),
    ],
)
def test_the_api_names_the_filter_that_makes_no_sense(lived, asked, field):
    answer = lived.acme.api("admin", "GET", f"events?tenant={lived.acme.tenant.id}&{asked}")
    assert (answer.status_code, list(answer.json()["errors"])) == (400, [field])


def test_each_kind_of_caller_reads_its_own_place_and_no_more(lived, machine):
    """R2: a tenant's token its tenant, an environment's the environment or the tenant it names; nobody another."""
    acme, globex = lived.acme, lived.globex
    tenants = acme.issue("owner", name="Reader", permissions=["audit:read"]).plaintext
    client = acme.issue_for_environment(name="Bound", kind="client_credentials")
    bound = jwt_of(machine, client, tenant=str(globex.tenant.id))
    powerless = acme.issue("owner", name="No reader", permissions=["apitokens:read"]).plaintext
    backend = lived.backend.plaintext
    everywhere = {str(acme.tenant.id), str(globex.tenant.id), None}
    table = [
        (tenants, "", 200, {str(acme.tenant.id)}),
        (tenants, f"?tenant={acme.tenant.id}", 200, {str(acme.tenant.id)}),
        (tenants, f"?tenant={globex.tenant.id}", 404, None),
        (bound, "", 200, {str(globex.tenant.id)}),
        (bound, f"?tenant={acme.tenant.id}", 404, None),
        (powerless, "", 403, None),
        (backend, "", 200, everywhere),
        (backend, f"?tenant={globex.tenant.external_id}", 200, {str(globex.tenant.id)}),
        (backend, f"?tenant={lived.acme_staging.tenant.id}", 404, None),
    ]
    for credential, asked, status, seen in table:
        answer = machine.get(f"/api/v1/events{asked}", headers=bearer(credential))
        assert answer.status_code == status, (asked, answer.content)
        if seen is not None:
            assert {event["tenant"] for event in answer.json()["results"]} == seen


def test_the_vendor_still_reads_the_record_of_a_tenant_that_is_stopped(lived, machine, office):
    tenant = lived.acme.tenant
    Tenant.objects.filter(pk=tenant.pk).update(suspended_at=timezone.now())
    answers = [
        machine.get(f"/api/v1/events?tenant={tenant.id}", headers=bearer(lived.backend.plaintext)),
        office.api("auditor", "GET", f"events?tenant={tenant.id}", environment=lived.production),
    ]
    for answer in answers:
        assert {event["tenant"] for event in answer.json()["results"]} == {str(tenant.id)}
    assert lived.acme.api("owner", "GET", f"events?tenant={tenant.id}").status_code == 404


@pytest.mark.parametrize("value", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_no_cell_is_taken_for_a_formula(value):
    assert exports.cell(value) == f"'{value}"


@pytest.mark.parametrize("value", ["", "name", "1+1", 'say "hi", twice', "a=b", "'quoted"])
def test_other_cells_are_as_they_are(value):
    assert exports.cell(value) == value


def test_a_name_that_would_be_a_formula_comes_out_harmless_and_whole(lived):
    acme = lived.acme
    name = '=HYPERLINK("https://evil.example","Click, please")'
    acme.issue("admin", name=name)
    assert f"'{name}" in {row["name"] for row in read(portal(acme, "admin", "tokens.csv"))}
    assert f"'{name}" in {row["target"] for row in read(portal(acme, "admin", "audit.csv"))}


def test_the_tokens_file_has_the_visible_tokens_and_no_secret(lived, office):
    acme = lived.acme
    personal = acme.issue("admin", name="Mine", owner="user")
    rows = read(portal(acme, "viewer", "tokens.csv"))
    assert {row["name"] for row in rows} == {"Made", "Stopped"}
    assert [row["state"] for row in rows if row["name"] == "Stopped"] == ["disabled"]
    assert {row["name"] for row in read(portal(acme, "admin", "tokens.csv"))} == {"Made", "Stopped", "Mine"}
    everywhere = read(office.page("auditor", lived.production, "tokens.csv"))
    assert {row["name"] for row in everywhere} == {"Made", "Stopped", "Mine", "Elsewhere", "Backend"}
    for response in (portal(acme, "admin", "tokens.csv"), portal(acme, "admin", "audit.csv")):
        text = b"".join(response.streaming_content).decode()
        for issued in (lived.token, lived.backend, personal):
            assert issued.plaintext not in text
            assert issued.plaintext[-43:-6] not in text
        for secret in lived.token.token.secrets.all():
            assert bytes(secret.digest).hex() not in text


def test_a_file_is_streamed_in_batches_and_says_when_it_was_cut(lived, monkeypatch):
    acme = lived.acme
    AuditEvent.objects.bulk_create(
        AuditEvent(
            at=timezone.now() - timedelta(seconds=number // 3),  # some at the very same moment
            environment_id=acme.environment.id,
            tenant_id=acme.tenant.id,
            actor_kind="system",
            verb="tenant.created",
            target_kind="tenant",
        )
        for number in range(40)
    )
    whole = read(portal(acme, "admin", "audit.csv"))
    monkeypatch.setattr(exports, "BATCH", 7)
    response = portal(acme, "admin", "audit.csv")
    pieces = [piece.decode() for piece in response.streaming_content]
    assert max(piece.count("\r\n") for piece in pieces) <= 7
    assert [row["id"] for row in csv.DictReader(io.StringIO("".join(pieces), newline=""))] == [
        row["id"] for row in whole
    ]
    assert len({row["id"] for row in whole}) == len(whole) == 45
    monkeypatch.setattr(exports, "ROWS_MAX", 20)
    *rows, note = read(portal(acme, "admin", "audit.csv"))
    assert [row["id"] for row in rows] == [row["id"] for row in whole][:20]
    assert note["at"] == "Cut after 20 rows: ask for a shorter time to get the rest."
    monkeypatch.setattr(exports, "ROWS_MAX", 45)
    assert [row["id"] for row in read(portal(acme, "admin", "audit.csv"))] == [row["id"] for row in whole]


def test_a_page_takes_as_many_queries_for_fifty_events_as_for_five(lived, office):
    browser, address = office.browser("auditor"), office.url(lived.production, "audit/")

    def count(page_size):
        browser.get(address)
        with CaptureQueriesContext(connection) as queries:
            assert browser.get(address, {"page_size": page_size}).status_code == 200
        return len(queries)

    assert count(2) == count(100)


def test_the_tokens_file_is_narrowed_as_the_list_is(lived, office):
    acme, production = lived.acme, lived.production
    table = {
        "state=disabled": {"Stopped"},
        "kind=client_credentials": {"Made"},
        "owner=environment": {"Backend"},
        f"tenant={lived.globex.tenant.id}": {"Elsewhere"},
        f"creator={acme.people['owner'].user_id}": {"Stopped"},
        "role=member": {"Made"},
    }
    found = {
        asked: {row["name"] for row in read(office.page("auditor", production, f"tokens.csv?{asked}"))}
        for asked in table
    }
    assert found == table
    for path, name in (("all-tokens/?kind=client_credentials", "Made"), ("tokens/", "Backend")):
        page = office.page("auditor", production, path).content.decode()
        link = re.search(r'href="[^"]*/(tokens\.csv[^"]*)"', page)[1].replace("&amp;", "&")
        assert {row["name"] for row in read(office.page("auditor", production, link))} == {name}
    for nonsense in ("tenant=Acme", "state=happy"):
        assert office.page("auditor", production, f"tokens.csv?{nonsense}").status_code == 400


MINUS = "\N{MINUS SIGN}"


@pytest.fixture
def told(lived):
    """Everything that pages say of a change: of tokens, members, invitations, roles and token types."""
    acme, production = lived.acme, lived.production

    def ask(role, method, path, body=None, status=200):
        answer = acme.api(role, method, f"{path}?tenant={acme.tenant.id}", body)
        assert answer.status_code == status, answer.content

    def ask_office(method, path, body):
        answer = lived.office.api("owner", method, path, body, environment=production)
        assert answer.status_code == 200, answer.content

    gone = acme.issue("admin", name="Gone")
    lived.gone = f"Gone …{gone.plaintext[-4:]}"
    ask("owner", "POST", f"tokens/{gone.token.token_id}/disable")
    ask("owner", "DELETE", f"tokens/{gone.token.token_id}", status=204)
    mo, olga = acme.people["member"], acme.people["owner"]
    ask("owner", "PATCH", f"members/{mo.id}", {"roles": ["viewer"]})
    ask("owner", "POST", f"members/{mo.id}/suspend")
    ask("admin", "POST", f"members/{olga.id}/suspend", status=403)
    ask("owner", "POST", "invitations", {"email": "new@example.com", "roles": ["admin"]}, status=201)
    ask("owner", "DELETE", f"invitations/{Invitation.objects.get().id}", status=204)
    ask_office(
        "PATCH",
        "token-types/tenant/client_credentials",
        {"longest_lifetime": 864000, "default_lifetime": 864000, "quota": 7},
    )
    viewer = Role.objects.get(environment=production, tenant=None, key="viewer")
    body = {"level": viewer.level + 1, "permissions": ["reports:write"], "name": "Looker"}
    ask_office("PATCH", f"roles/{viewer.id}", body)
    lived.viewer_level = viewer.level
    return lived


def test_page_and_file_say_what_was_done_to_whom(told):
    acme = told.acme
    mo, olga = (str(acme.people[role].user) for role in ("member", "owner"))
    expected = [
        ("apitoken.disabled", "done", "Disabled the token", "Stopped"),
        ("apitoken.disabled", "done", "Disabled the token", told.gone),
        ("apitoken.deleted", "done", "Deleted the token", told.gone),
        ("membership.roles_changed", "done", "Changed a member's roles", mo),
        ("membership.suspended", "done", "Suspended a member", mo),
        ("membership.suspended", "refused", "Tried to suspend a member", olga),
        ("invitation.sent", "done", "Invited somebody", "to Admin"),
        ("invitation.revoked", "done", "Revoked an invitation", "to Admin"),
        ("apitoken.issued", "refused", "Tried to make a token", "New"),
    ]
    page = unescape(portal(acme, "admin", "audit/?page_size=100").content.decode())
    rows = read(portal(acme, "admin", "audit.csv"))
    found = {(row["verb"], row["outcome"], row["what"], row["target"]) for row in rows}
    assert set(expected) <= found
    for _verb, _outcome, what, target in expected:
        assert f"{what} · {target}" in page
    assert "new@example.com" not in page
    assert f"{acme.people['admin'].user} · role above ceiling · 127.0.0.1" in page


def test_a_change_is_told_field_by_field(told):
    rows = read(told.office.page("auditor", told.production, "audit.csv"))
    found = {(row["verb"], row["target"]): row["changes"] for row in rows if row["outcome"] == "done"}
    page = unescape(told.office.page("auditor", told.production, "audit/?page_size=100").content.decode())
    level = told.viewer_level
    roles = found["membership.roles_changed", str(told.acme.people["member"].user)]
    assert roles == f"Roles + Looker {MINUS} Member"
    role = found["role.edited", "Looker"].split("; ")
    assert role[:2] == [f"Level {level} → {level + 1}", "Name Viewer → Looker"]
    assert role[2].startswith(f"Permissions + reports:write {MINUS} ")
    limits = found["token_type.changed", "A tenant: Client credentials"].split("; ")
    assert "Longest lifetime no limit → 10 days" in limits
    assert "How many an owner may hold" in " ".join(limits)
    assert found["membership.suspended", str(told.acme.people["member"].user)] == ""
    for line in (roles, *role, *limits):
        assert f"<li>{line}</li>" in page


def test_a_long_change_is_told_in_short():
    keys = [f"reports:{number}" for number in range(300)]
    event = AuditEvent(
        verb="role.edited",
        target_kind="role",
        before={"name": "A" * 500, "permissions": [], **{f"field_{number}": 0 for number in range(50)}},
        after={"name": "B" * 500, "permissions": keys, **{f"field_{number}": 1 for number in range(50)}},
    )
    lines = changes(event, Known(people={}))
    assert (len(lines), lines[-1]) == (13, "and 40 more")
    event.before, event.after = ({"permissions": each} for each in ([], keys))
    assert changes(event, Known(people={})) == [f"Permissions + {', '.join(keys[:6])} and 294 more"]


def test_what_was_refused_is_told_as_an_attempt():
    """What the system does alone, and what reports itself, is not tried."""
    never = {
        "portal_session.opened",
        "access.denied", "admin.changed", "apitoken.permission_deleted",
        "apitoken.retired_secret_used", "apitoken.role_deleted", "apitoken.secret_in_address",
        "apitoken.wrong_secret", "environment.erased", "invitation.replaced", "invitation.withdrawn",
        "membership.created", "signing_key.activated", "signing_key.reencrypted",
        "signing_key.replaced", "signing_key.retired", "tenant.erased", "user.erased", "vendor_invitation.replaced",
        "vendor_membership.created", "vendor_membership.resumed",
    }  # fmt: skip
    assert set(VERBS) - set(TRIED) == never
    assert set(TRIED) <= set(VERBS)


def test_names_of_targets_take_as_many_queries_for_many_events_as_for_few(told):
    """Also where the names have to be looked for: of tokens that are there or gone, of people and of roles."""
    browser, address = told.acme.browser("admin"), f"/t/{told.acme.tenant.slug}/audit/"

    def count():
        browser.get(address)
        with CaptureQueriesContext(connection) as queries:
            page = browser.get(address, {"page_size": 100})
        return page.content.decode().count("data-audit-id"), len(queries)

    few, queries = count()
    for number in range(5):
        acme = told.acme
        token = acme.issue("owner", name=f"Another {number}").token
        for act in ("disable", "enable"):
            assert acme.api("owner", "POST", f"tokens/{token.token_id}/{act}").status_code == 200
        if number % 2:
            assert acme.api("owner", "DELETE", f"tokens/{token.token_id}").status_code == 204
        for act in ("reinstate", "suspend"):
            path = f"members/{acme.people['member'].id}/{act}?tenant={acme.tenant.id}"
            assert acme.api("owner", "POST", path).status_code == 200
    many, again = count()
    assert (many >= few + 27, again) == (True, queries)


def test_a_token_whose_owner_has_left_says_so_and_when_it_goes(lived):
    acme, office = lived.acme, lived.office
    token, mo = acme.issue("member", name="Mine", owner="user").token, acme.people["member"]
    path = f"tokens/{token.token_id}/"
    assert "Owner has left" not in office.page("admin", lived.production, path).content.decode()
    left = timezone.now().replace(microsecond=0)
    Membership.objects.filter(pk=mo.pk).update(suspended_at=left)
    assert "Owner suspended" in office.page("admin", lived.production, path).content.decode()
    Membership.objects.filter(pk=mo.pk).update(ended_at=left)
    page = office.page("admin", lived.production, path).content.decode()
    assert ("Owner has left" in page, "Its owner has left." in page, "Owner suspended" in page) == (True, True, False)
    assert f"{left + timedelta(days=7):%-d %b %Y, %H:%M} UTC" in page


def test_a_token_without_a_secret_is_not_called_active(lived):
    acme = lived.acme
    lived.disabled.secrets.all().delete()
    lived.token.token.secrets.all().delete()
    page = portal(acme, "admin", f"tokens/{lived.token.token.token_id}/").content.decode()
    assert ("No secret yet" in page, "Active" in page) == (True, False)
    assert portal(acme, "admin", "tokens/").content.decode().count("No secret yet") == 1
    assert "No secret yet" not in portal(acme, "admin", f"tokens/{lived.disabled.token_id}/").content.decode()
