"""Who is signed out is asked to sign in; who lacks a permission is told which one, by page and by API."""

import re
from uuid import UUID

import pytest
from django.test import Client

from apitokens.models import ApiToken
from apitokens.setup import give_role, hold
from audit.models import AuditEvent, Outcome
from tests.cast import bearer, everything_stored
from tests.doors import API, PAGES, VERBS
from tests.factories import MembershipFactory, RoleFactory

PAGE_ROUTES = sorted({route for _, route, _, _ in PAGES})
API_ROUTES = sorted({route for _, route, _, _ in API})


@pytest.fixture
def auditor(acme):
    """Aud reads the record and has nothing to do with tokens."""
    role = RoleFactory(environment=acme.environment, key="auditor", name="Auditor")
    hold(role, ["audit:read"])
    acme.people["auditor"] = MembershipFactory(tenant=acme.tenant)
    give_role(acme.people["auditor"], role)
    return acme


def _address(route, house, token_id="0" * 12):
    """Other ids than the token's lead to nothing: nobody who lacks the permission gets as far as to look."""
    route = route.replace("<slug:slug>", house.tenant.slug).replace("<str:token_id>", token_id)
    return "/" + re.sub(r"<uuid:\w+>", str(UUID(int=0)), route)


def _call(house, person, verb, route, token_id, body=None):
    browser = house.browser(person)
    browser.get("/accounts/logout/")
    csrf = {"X-CSRFToken": browser.cookies["csrftoken"].value}
    return browser.generic(
        verb,
        _address(route, house, token_id),
        data=body or "",
        content_type="application/x-www-form-urlencoded",
        headers=csrf,
    )


def _refusals(**about):
    events = AuditEvent.objects.filter(outcome=Outcome.REFUSED, **about)
    return list(events.values_list("verb", "reason"))


@pytest.mark.parametrize("route", ["", *PAGE_ROUTES])
def test_signed_out_every_page_asks_to_sign_in(acme, route):
    browser = Client(enforce_csrf_checks=True)
    browser.get("/accounts/login/")
    csrf = {"X-CSRFToken": browser.cookies["csrftoken"].value}
    address = _address(route, acme)
    for verb in VERBS:
        answer = browser.generic(verb, address, headers=csrf)
        assert (verb, answer.status_code, answer.headers["Location"]) == (verb, 302, f"/accounts/login/?next={address}")


@pytest.mark.parametrize("route", ["api/v1/token/self", *API_ROUTES])
def test_signed_out_every_address_of_the_api_is_401(acme, machine, route):
    for verb in VERBS:
        answer = machine.generic(verb, _address(route, acme))
        assert (verb, answer.status_code) == (verb, 401)
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="api"'
        if verb != "HEAD":
            assert answer.json() == {
                "type": "urn:tallystick:problem:not_authenticated",
                "title": "Unauthorized",
                "status": 401,
                "detail": "Authentication credentials were not provided.",
                "code": "not_authenticated",
            }


@pytest.mark.parametrize(("person", "status"), [("viewer", 403), ("member", 403), ("admin", 200), ("owner", 200)])
def test_the_record_opens_to_who_may_read_it(acme, person, status):
    browser = acme.browser(person)
    answer = browser.get(f"/t/{acme.tenant.slug}/audit/")
    assert answer.status_code == status
    assert ("<code>audit:read</code>" in answer.content.decode()) == (status == 403)
    has_tab = f'href="/t/{acme.tenant.slug}/audit/"' in browser.get(acme.url()).content.decode()
    assert has_tab == (status == 200)


@pytest.mark.parametrize(("person", "status"), [("auditor", 403), ("viewer", 200)])
def test_without_the_permission_to_read_tokens_there_is_no_tab_and_its_address_is_403(auditor, person, status):
    browser = auditor.browser(person)
    answer = browser.get(auditor.url())
    assert answer.status_code == status
    page = answer.content.decode()
    assert ("<code>apitokens:read</code>" in page) == (status == 403)
    assert (f'href="{auditor.url()}"' in page) == (status == 200)


# What opens the pages below `t/<tenant>/`; the record is what Aud reads, and leaving is everybody's right.
OPENED_BY = {
    "tokens": "apitokens:read", "members": "members:read", "roles": "roles:read", "usage": "usage:read",
    "sso": "sso:read",
}  # fmt: skip
OPEN_TO_AUD = ("", "audit", "leave")


@pytest.mark.parametrize("row", PAGES, ids=lambda row: f"{row[0]} {row[1]}")
def test_without_the_permission_that_opens_them_all_pages_are_403(auditor, row):
    verb, route, _, status = row
    token = auditor.issue("admin").token
    before = everything_stored(but=("django_session", "audit_auditevent", "audit_person", "accounts_user"))
    answer = _call(auditor, "auditor", verb, route, token.token_id)
    family = route.split("/")[2].removesuffix(".csv")
    if family in OPEN_TO_AUD:
        assert answer.status_code == status
        return
    assert answer.status_code == 403
    assert f"<code>{OPENED_BY[family]}</code>" in answer.content.decode()
    assert everything_stored(but=("django_session", "audit_auditevent", "audit_person", "accounts_user")) == before


@pytest.mark.parametrize(("person", "status"), [("auditor", 403), ("viewer", 200)])
def test_without_the_permission_the_api_lists_nothing_and_says_which(auditor, person, status):
    answer = auditor.api(person, "GET", f"tokens?tenant={auditor.tenant.id}")
    assert answer.status_code == status
    if status == 403:
        assert answer.json() == _insufficient("apitokens:read")
        assert answer.headers["WWW-Authenticate"] == 'Bearer error="insufficient_scope", scope="apitokens:read"'


@pytest.mark.parametrize(("person", "status"), [("viewer", 403), ("member", 201)])
def test_in_the_api_a_viewer_makes_no_token_for_the_tenant(acme, person, status):
    body = {"name": "CI", "kind": "access_token", "roles": ["viewer"]}
    answer = acme.api(person, "POST", f"tokens?tenant={acme.tenant.id}", body)
    assert answer.status_code == status
    assert ApiToken.objects.count() == (status == 201)
    if status == 403:
        assert answer.json() == _insufficient("apitokens:create")
        actor = acme.people[person].user_id
        assert _refusals(actor_id=actor) == [("apitoken.issued", "insufficient_scope")]


@pytest.mark.parametrize(("person", "status"), [("viewer", 422), ("member", 200)])
def test_on_the_page_a_viewer_makes_no_token_for_the_tenant(acme, person, status):
    answer = acme.make(person, roles=["viewer"])
    assert answer.status_code == status
    assert ApiToken.objects.count() == (status == 200)
    if status == 422:
        assert "This needs the permission apitokens:create." in answer.content.decode()
        actor = acme.people[person].user_id
        assert _refusals(actor_id=actor) == [("apitoken.issued", "insufficient_scope")]


ACTS = [
    pytest.param("disable", "apitokens:delete", "apitoken.disabled", id="disable"),
    pytest.param("enable", "apitokens:create", "apitoken.enabled", id="enable"),
    pytest.param("delete", "apitokens:delete", "apitoken.deleted", id="delete"),
    pytest.param("rotate", "apitokens:create", "apitoken.rotated", id="rotate"),
]


@pytest.mark.parametrize(("act", "permission", "verb"), ACTS)
def test_on_the_pages_a_viewer_changes_no_token_of_the_tenant(acme, act, permission, verb):
    token = acme.issue("admin").token
    before = everything_stored(but=("django_session", "audit_auditevent", "audit_person", "accounts_user"))
    answer = _call(acme, "viewer", "POST", f"t/<slug:slug>/tokens/<str:token_id>/{act}/", token.token_id)
    assert answer.status_code == 403
    assert f"<code>{permission}</code>" in answer.content.decode()
    assert everything_stored(but=("django_session", "audit_auditevent", "audit_person", "accounts_user")) == before
    assert _refusals(target_id=token.id) == [(verb, "insufficient_scope")]


@pytest.mark.parametrize(("act", "permission", "verb"), ACTS)
def test_on_the_pages_a_member_does(acme, act, permission, verb):
    token = acme.issue("member").token
    answer = _call(acme, "member", "POST", f"t/<slug:slug>/tokens/<str:token_id>/{act}/", token.token_id)
    assert answer.status_code == (200 if act == "rotate" else 302)
    done = AuditEvent.objects.filter(target_id=token.id, verb=verb, outcome=Outcome.DONE).count()
    assert done == (act != "enable")  # it was not disabled


@pytest.mark.parametrize(("person", "status"), [("viewer", 403), ("member", 200)])
@pytest.mark.parametrize(
    ("form", "permission"),
    [("edit", "apitokens:create"), ("rotate", "apitokens:create"), ("delete", "apitokens:delete")],
)
def test_a_form_is_shown_to_those_who_may_send_it(acme, form, permission, person, status):
    token = acme.issue("admin").token
    answer = _call(acme, person, "GET", f"t/<slug:slug>/tokens/<str:token_id>/{form}/", token.token_id)
    assert answer.status_code == status
    assert (f"<code>{permission}</code>" in answer.content.decode()) == (status == 403)


def test_on_the_page_a_viewer_renames_no_token_of_the_tenant(acme):
    token = acme.issue("admin").token
    route = "t/<slug:slug>/tokens/<str:token_id>/edit/"
    answer = _call(acme, "viewer", "POST", route, token.token_id, "name=Renamed")
    assert answer.status_code == 403
    assert "<code>apitokens:create</code>" in answer.content.decode()
    assert _refusals(target_id=token.id) == [("apitoken.edited", "insufficient_scope")]
    assert list(ApiToken.objects.values_list("name", flat=True)) == ["CI"]
    assert _call(acme, "admin", "POST", route, token.token_id, "name=Renamed").status_code == 302
    assert list(ApiToken.objects.values_list("name", flat=True)) == ["Renamed"]


API_ACTS = [
    pytest.param("POST", "/disable", None, "apitokens:delete", 200, id="disable"),
    pytest.param("POST", "/enable", None, "apitokens:create", 200, id="enable"),
    pytest.param("POST", "/rotate", None, "apitokens:create", 201, id="rotate"),
    pytest.param("PATCH", "", {"name": "Renamed"}, "apitokens:create", 200, id="change"),
    pytest.param("DELETE", "", None, "apitokens:delete", 204, id="delete"),
]


@pytest.mark.parametrize(("method", "act", "body", "permission", "status"), API_ACTS)
def test_in_the_api_a_viewer_changes_no_token_of_the_tenant(acme, method, act, body, permission, status):
    token = acme.issue("member").token
    before = everything_stored(but=("django_session", "audit_auditevent", "audit_person", "accounts_user"))
    answer = acme.api("viewer", method, f"tokens/{token.token_id}{act}", body)
    assert (answer.status_code, answer.json()) == (403, _insufficient(permission))
    assert everything_stored(but=("django_session", "audit_auditevent", "audit_person", "accounts_user")) == before
    assert acme.api("member", method, f"tokens/{token.token_id}{act}", body).status_code == status


def test_a_token_without_the_permission_is_told_which_and_where_to_mend_it(acme, machine):
    issued = acme.issue("admin", permissions=["reports:read"])
    answer = machine.get("/api/v1/tokens", headers=bearer(issued.plaintext))
    page = f"http://localhost:8000/t/{acme.tenant.slug}/tokens/{issued.token.token_id}/"
    assert answer.json() == {**_insufficient("apitokens:read"), "token_page": page}
    wider = acme.issue("admin", name="Wider", permissions=["apitokens:read"])
    assert machine.get("/api/v1/tokens", headers=bearer(wider.plaintext)).status_code == 200


def _insufficient(permission):
    return {
        "type": "urn:tallystick:problem:insufficient_scope",
        "title": "Forbidden",
        "status": 403,
        "detail": f"This needs the permission {permission}.",
        "code": "insufficient_scope",
        "permission": permission,
    }
