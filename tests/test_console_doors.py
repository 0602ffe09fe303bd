"""R2 for environments: somebody else's is 404 at every door, byte for byte the answer for one that never existed.

Owners and admins pass, auditors read everything and change nothing, and what was rendered for one environment changes
nothing in another.
"""

import json
import re
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apitokens.models import TokenType
from audit.models import AuditEvent
from tenants.models import Environment, Permission, VendorMembershipEnvironment
from tests.cast import HIDDEN, bearer, everything_stored, make_environment, make_office
from tests.doors import CONSOLE, ENVIRONMENT_API, IDS, OF_THE_VENDOR, OWN_LISTS, VERBS, console_routes, routes, seen
from tests.factories import RoleFactory, VendorFactory, VendorMembershipFactory

# What a refusal may leave: its event, the name behind it, and in which environment the browser is.
TRACES = ("django_session", "audit_auditevent", "audit_person")
NEVER = {"slug": "never", "staging": "never"}


@pytest.fixture
def doors(world):
    """Staging has a permission that production lacks, so that there is something to copy."""
    Permission.objects.create(environment=world.staging, key="invoices:read")
    TokenType.objects.update(may_make_tokens=True)
    world.ids = {name: found(world) for name, found in IDS.items()}
    return world


def fill(text, ids):
    return re.sub(r"<\w+:(\w+)>", lambda found: ids[found[1]], text)


def filled(body, ids):
    return None if body is None else json.loads(fill(json.dumps(body), ids))


def never(ids):
    """The same addresses with ids of nothing."""
    return {
        name: NEVER.get(name, str(uuid4()) if name.endswith("_id") and "-" in ids[name] else "0" * 12) for name in ids
    }


def owner_of_another_vendor(world):
    vendor = VendorFactory()
    make_environment(vendor=vendor)
    return make_office(vendor).browser("owner")


def admin_of_staging_alone(world):
    member = VendorMembershipFactory(vendor=world.vendor, role="admin", in_all_environments=False)
    VendorMembershipEnvironment.objects.create(vendor_membership=member, environment=world.staging, vendor=world.vendor)
    return signed_in(member)


def suspended_owner(world):
    member = world.office.people["owner"]
    type(member).objects.filter(pk=member.pk).update(suspended_at=member.created_at)
    return signed_in(member)


def admin_of_a_tenant(world):
    return world.acme.browser("admin")


def signed_in(member):
    client = Client(enforce_csrf_checks=True)
    client.force_login(member.user)
    return client


STRANGERS = [owner_of_another_vendor, admin_of_staging_alone, suspended_owner, admin_of_a_tenant]
# Every door by every verb: one of them does it on both databases.
WALKED_BY = [STRANGERS[0], *(pytest.param(stranger, marks=pytest.mark.once) for stranger in STRANGERS[1:])]


def csrf_of(browser):
    browser.get("/accounts/password/change/")
    return {"X-CSRFToken": browser.cookies["csrftoken"].value}


def test_every_address_of_the_console_is_walked():
    assert {route for route in routes() if route.startswith("console/<slug:slug>/")} == console_routes()


@pytest.mark.parametrize("stranger", WALKED_BY, ids=lambda stranger: stranger.__name__)
def test_in_the_console_anothers_environment_is_like_one_that_never_was(doors, stranger):
    browser = stranger(doors)
    headers = csrf_of(browser)
    before = everything_stored(but=("django_session",))
    form = {"content_type": "application/x-www-form-urlencoded"}
    for route in {route for _, route, _, _, _ in CONSOLE}:
        for verb in VERBS:
            theirs, nobodys = (
                browser.generic(
                    verb,
                    f"/console/{slug}/{fill(route, ids)}",
                    urlencode({"environment": slug}),
                    headers=headers,
                    **form,
                )
                for slug, ids in ((doors.production.slug, doors.ids), ("never", never(doors.ids)))
            )
            assert theirs.status_code == 404, (verb, route)
            assert seen(theirs) == seen(nobodys), (verb, route)
    assert everything_stored(but=("django_session",)) == before


def test_in_the_console_what_is_of_another_environment_is_like_what_never_was(doors):
    """One's own environment in the address, and in it an id of another one's."""
    browser = doors.office.browser("owner")
    before = everything_stored(but=("django_session",))
    for verb, route, fields, _, _ in CONSOLE:
        if "_id>" in route and not route.startswith(OF_THE_VENDOR):
            hidden = doors.office.hidden(browser, doors.staging)
            theirs, nobodys = (
                browser.generic(
                    verb,
                    f"/console/{doors.staging.slug}/{fill(route, ids)}",
                    urlencode({**hidden, **fields}, doseq=True),
                    content_type="application/x-www-form-urlencoded",
                )
                for ids in (doors.ids, {**doors.ids, **never(doors.ids)})
            )
            assert theirs.status_code == 404, (verb, route)
            assert seen(theirs) == seen(nobodys), (verb, route)
    assert everything_stored(but=("django_session",)) == before


def test_in_the_console_an_owner_succeeds_everywhere(doors):
    browser = doors.office.browser("owner")
    for verb, route, fields, status, _ in CONSOLE:
        path = fill(route, doors.ids)
        if verb == "GET":
            answer = doors.office.page("owner", doors.production, path, browser)
        else:
            answer = doors.office.post("owner", doors.production, path, browser, **filled(fields, doors.ids))
        assert answer.status_code == status, (verb, route, answer.content.decode()[-3000:])


def test_in_the_console_an_auditor_reads_everything_and_changes_nothing(doors):
    """Also with a form taken from an owner's page, since their own has none."""
    browser, owners = doors.office.browser("auditor"), doors.office.browser("owner")
    before = everything_stored(but=TRACES)
    for verb, route, fields, status, permission in CONSOLE:
        path = fill(route, doors.ids)
        told = AuditEvent.objects.count()
        if verb == "GET":
            answer = doors.office.page("auditor", doors.production, path, browser)
        else:
            form = doors.office.hidden(owners, doors.production, path)
            own = doors.office.hidden(browser, doors.production, path)["csrfmiddlewaretoken"]
            sent = {**form, "csrfmiddlewaretoken": own, **filled(fields, doors.ids)}
            answer = browser.post(doors.office.url(doors.production, path), sent)
        assert answer.status_code == (403 if permission else status), (verb, route, answer.content.decode()[-3000:])
        if permission:
            assert f"<code>{permission}</code>" in answer.content.decode(), (verb, route)
            assert AuditEvent.objects.count() > told, (verb, route)
    assert everything_stored(but=TRACES) == before
    assert set(AuditEvent.objects.filter(actor_id=doors.office.people["auditor"].user_id).values_list("outcome")) == {
        ("refused",)
    }


def is_of_the_person(form):
    """In the account menu of every page, and about no environment."""
    return any(f'action="{path}"' in form for path in ("/accounts/logout/", "/theme/", "/language/"))


def test_a_page_for_an_auditor_offers_no_form_that_would_be_refused(doors):
    """But the ones that only look for something."""
    browser = doors.office.browser("auditor")
    for verb, route, _, _, permission in CONSOLE:
        if verb == "GET" and permission is None:
            page = doors.office.page("auditor", doors.production, fill(route, doors.ids), browser)
            forms = re.findall(r"<form[^>]*>", page.content.decode() if not page.streaming else "")
            posting = [form for form in forms if 'method="post"' in form and "data-finds" not in form]
            assert [form for form in posting if not is_of_the_person(form)] == [], route


def test_a_form_of_one_environment_sent_after_switching_to_another_changes_nothing(doors):
    for verb, route, fields, _, _ in CONSOLE:
        if verb != "POST":
            continue
        path = fill(route, doors.ids)
        browser = doors.office.browser("owner")
        hidden = doors.office.hidden(browser, doors.production, path)
        browser.get(doors.office.url(doors.staging))
        before = everything_stored(but=("django_session",))
        filled_in = {**hidden, **filled(fields, doors.ids)}
        for environment in (doors.production, doors.staging):
            answer = browser.post(doors.office.url(environment, path), filled_in)
            # An id of the one is none of the other: either way nothing is done.
            assert answer.status_code == 409, (route, environment.slug, answer.status_code)
        assert doors.production.name in answer.content.decode() or doors.staging.name in answer.content.decode()
        assert everything_stored(but=("django_session",)) == before, route


def call(client, headers, verb, route, body, ids, slug=None):
    path = f"/api/v1/{fill(route, ids)}"
    if slug:
        path += f"{'&' if '?' in path else '?'}environment={slug}"
    data = "" if body is None else json.dumps(filled(body, ids))
    return client.generic(verb, path, data, content_type="application/json", headers=headers)


def in_address(route):
    return route.startswith("environments/")


@pytest.mark.parametrize("stranger", STRANGERS, ids=lambda stranger: stranger.__name__)
def test_in_the_api_anothers_environment_is_like_one_that_never_was(doors, stranger):
    browser = stranger(doors)
    headers = csrf_of(browser)
    before = everything_stored(but=("django_session",))
    for verb, route, body, _, _ in ENVIRONMENT_API:
        if verb == "GET" and route in OWN_LISTS:
            continue
        theirs, nobodys = (
            call(browser, headers, verb, route, body, ids, None if in_address(route) else slug)
            for slug, ids in ((doors.production.slug, doors.ids), ("never", never(doors.ids)))
        )
        assert theirs.status_code == 404, (verb, route, theirs.content)
        assert seen(theirs) == seen(nobodys), (verb, route)
    assert everything_stored(but=("django_session",)) == before


def test_in_the_api_a_token_of_another_environment_finds_nothing(doors):
    """By an id or a slug in the address, or by naming the other environment."""
    token = doors.acme_staging.issue_for_environment().plaintext
    before = everything_stored(but=("django_session",))
    for verb, route, body, _, _ in ENVIRONMENT_API:
        if route.startswith(OF_THE_VENDOR):
            continue
        has_id = "_id>" in route or "slug>" in route
        slugs = [(None, None)] if has_id else [(doors.production.slug, "never")]
        for theirs_slug, nobodys_slug in slugs:
            if route in OWN_LISTS:
                continue
            theirs = call(Client(), bearer(token), verb, route, body, doors.ids, theirs_slug)
            nobodys = call(Client(), bearer(token), verb, route, body, never(doors.ids), nobodys_slug)
            assert theirs.status_code == 404, (verb, route, theirs.content)
            assert seen(theirs) == seen(nobodys), (verb, route)
    assert everything_stored(but=("django_session",)) == before


def test_in_the_api_an_owner_succeeds_everywhere(doors):
    browser = doors.office.browser("owner")
    headers = csrf_of(browser)
    for verb, route, body, status, _ in ENVIRONMENT_API:
        slug = None if in_address(route) else doors.production.slug
        answer = call(browser, headers, verb, route, body, doors.ids, slug)
        assert answer.status_code == status, (verb, route, answer.content)


def test_in_the_api_an_auditor_reads_everything_and_changes_nothing(doors):
    browser = doors.office.browser("auditor")
    headers = csrf_of(browser)
    before = everything_stored(but=TRACES)
    for verb, route, body, status, permission in ENVIRONMENT_API:
        slug = None if in_address(route) else doors.production.slug
        told = AuditEvent.objects.count()
        answer = call(browser, headers, verb, route, body, doors.ids, slug)
        assert answer.status_code == (403 if permission else status), (verb, route, answer.content)
        if permission:
            assert answer.json()["permission"] == permission, (verb, route)
            assert AuditEvent.objects.count() > told, (verb, route)
    assert everything_stored(but=TRACES) == before


# What is left to do in an environment that is deleted, or is not done in it at all.
EVEN_IF_DELETED = {
    "settings/restore/", "settings/delete/", "settings/environments/new/",
    "environments", "environments/<slug:slug>/restore",
}  # fmt: skip
# Forms that come back with what was typed when they are refused; the others lead to a page that says why.
SHOWN_AGAIN = {
    "tokens/new/", "tokens/<str:token_id>/edit/", "tokens/<str:token_id>/take-over/", "tokens/<str:token_id>/rotate/",
    "roles/", "roles/new/", "roles/<uuid:role_id>/edit/", "roles/<uuid:role_id>/delete/",
    "permissions/new/", "permissions/<uuid:permission_id>/edit/", "permissions/<uuid:permission_id>/delete/",
    "people/invite/", "people/<uuid:member_id>/", "tenants/<uuid:tenant_id>/sso/edit/",
    "tenants/<uuid:tenant_id>/sso/enforce/", "tenants/<uuid:tenant_id>/sso/remove/",
}  # fmt: skip


def test_in_an_environment_that_waits_to_be_erased_nothing_is_made_or_changed(doors):
    """By whatever door; restoring it is all that is left to do."""
    browser = doors.office.browser("owner")
    headers = csrf_of(browser)
    Environment.objects.filter(pk=doors.production.pk).update(deleted_at=timezone.now())
    before = everything_stored(but=("django_session",))
    for verb, route, fields, _, permission in CONSOLE:
        if verb == "POST" and permission and route not in EVEN_IF_DELETED:
            path = fill(route, doors.ids)
            answer = doors.office.post("owner", doors.production, path, browser, **filled(fields, doors.ids))
            assert answer.status_code == (422 if route in SHOWN_AGAIN else 409), route
            assert "Production is deleted. Restore it first" in answer.content.decode(), route
    for verb, route, body, _, permission in ENVIRONMENT_API:
        if verb != "GET" and permission and route not in EVEN_IF_DELETED:
            slug = None if in_address(route) else doors.production.slug
            answer = call(browser, headers, verb, route, body, doors.ids, slug)
            code = "already_so" if (verb, route) == ("DELETE", "environments/<slug:slug>") else "deleted"
            assert (answer.status_code, answer.json()["code"]) == (409, code), (verb, route, answer.content)
    assert everything_stored(but=("django_session",)) == before
    assert call(browser, headers, "POST", "environments/<slug:slug>/restore", None, doors.ids).status_code == 200


def test_in_a_tenant_that_waits_to_be_erased_nothing_is_made_or_changed(doors):
    """The vendor's people still reach its tokens and roles."""
    browser = doors.office.browser("owner")
    headers = csrf_of(browser)
    token = doors.acme.issue("admin", name="Nightly").token.token_id
    own = RoleFactory(environment=doors.production, tenant=doors.acme.tenant, key="own:x", name="X", level=1)
    ids = {**doors.ids, "token_id": token, "role_id": str(own.id)}
    type(doors.acme.tenant).objects.filter(pk=doors.acme.tenant.pk).update(deleted_at=timezone.now())
    before = everything_stored(but=("django_session",))
    for route, fields in (
        ("tokens/<str:token_id>/disable/", {}),
        ("tokens/<str:token_id>/delete/", {}),
        ("roles/<uuid:role_id>/edit/", {"name": "Y", "level": "2"}),
        ("roles/<uuid:role_id>/delete/", {}),
        ("tenants/<uuid:tenant_id>/invite/", {"email": "new@acme.example", "roles": "admin"}),
        ("tenants/<uuid:tenant_id>/edit/", {"name": "Other"}),
        ("tenants/<uuid:tenant_id>/suspend/", {}),
        ("tenants/<uuid:tenant_id>/reinstate/", {}),
    ):
        answer = doors.office.post("owner", doors.production, fill(route, ids), browser, **fields)
        assert answer.status_code == (422 if route in SHOWN_AGAIN else 409), route
        assert "Acme is deleted. Restore it first" in answer.content.decode(), route
    assert everything_stored(but=("django_session",)) == before
    assert (
        call(browser, headers, "POST", "tenants/<uuid:tenant_id>/restore", None, ids, doors.production.slug).status_code
        == 200
    )


def test_what_the_console_refuses_says_whom_to_ask_and_leads_back(world, office):
    production, staging = world.production, world.staging
    page = office.page("auditor", production, "tenants/new/").content.decode()
    assert "An owner of the vendor can give you a role that may." in page
    assert f'href="{office.url(production, "tenants/")}">' in page
    assert "An owner of the vendor can let you in." in office.page("admin", production, "no-such/").content.decode()
    browser = office.browser("owner")
    hidden = office.hidden(browser, production, "tenants/new/")
    browser.get(office.url(staging))
    switched = browser.post(office.url(production, "tenants/new/"), hidden)
    page = switched.content.decode()
    assert switched.status_code == 409
    assert "<title>This can&#x27;t be done now" in page
    assert re.search(rf'href="{office.url(production, "tenants/")}">.*?Open it in {production.name}</a>', page, re.S)


def test_who_works_for_one_environment_alone_goes_straight_to_it(world):
    answer = admin_of_staging_alone(world).get("/")
    assert (answer.status_code, answer.headers["Location"]) == (
        302,
        reverse("console:overview", args=[world.staging.slug]),
    )


def test_who_works_for_several_is_asked_which(world, office):
    page = office.browser("owner").get("/").content.decode()
    for environment in (world.production, world.staging):
        assert f'href="/console/{environment.slug}/"' in page


def test_every_form_of_the_console_says_which_environment_it_is_for(doors):
    browser = doors.office.browser("owner")
    for verb, route, _, _, _ in CONSOLE:
        if verb == "GET":
            page = doors.office.page("owner", doors.production, fill(route, doors.ids), browser)
            if page.streaming:
                continue
            for form in re.findall(r'<form method="post".*?</form>', page.content.decode(), re.S):
                if not is_of_the_person(form):
                    assert dict(HIDDEN.findall(form))["environment"] == doors.production.slug, route
