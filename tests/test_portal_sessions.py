"""The vendor's backend opens a tenant's pages for its own people: who they are, what they see there, and until when."""

import json
import re
from datetime import timedelta
from unittest.mock import ANY  # noqa: TID251 -- for == over a whole JSON body; nothing is mocked

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from accounts.sessions import SessionStore
from apitokens.governance import members, portal_sessions, tenants
from apitokens.governance.portal_sessions import LINK_VALID, LONGEST, MOST_LIVE
from apitokens.models import PORTAL_IDLE as IDLE
from apitokens.models import ApiToken, PortalSession
from apitokens.principals import system
from apitokens.setup import hold
from audit.models import AuditEvent
from config import housekeeping
from config.logs import _CREDENTIAL
from tests.cast import bearer, event, everything_stored, iso, jwt_of, shown
from tests.factories import RoleFactory

FRAME = "https://app.bolt.example"
GRACE = {"id": "usr_8f2c", "email": "grace@acme.example", "name": "Grace Hopper"}
COOKIES = {"embedded-sessionid", "embedded-csrftoken"}


class Product:
    """The vendor's own application: its backend, with a token of the environment, and browsers of its people."""

    def __init__(self, house, **asked):
        self.house = house
        self.issued = house.issue_for_environment(**{"name": "Backend", "kind": "access_token", **asked})
        type(house.environment).objects.filter(pk=house.environment.pk).update(embedding_origins=[FRAME])

    def call(self, method, path="", body=None, token=None):
        return Client().generic(
            method,
            f"/api/v1/portal-sessions{path}",
            data=json.dumps(body) if body is not None else "",
            content_type="application/json",
            headers=bearer(token or self.issued.plaintext),
        )

    def asks(self, token=None, **asked):
        """The answer to a new portal session for Grace, a member of the tenant."""
        body = {"tenant": str(self.house.tenant.id), "user": GRACE, "roles": ["member"], **asked}
        return self.call("POST", body={name: value for name, value in body.items() if value is not None}, token=token)

    def link(self, **asked):
        answer = self.asks(**asked)
        assert answer.status_code == 201, answer.content
        return answer.json()["url"].removeprefix(settings.ORIGIN)

    def browser(self, **asked):
        """A browser in which somebody has come from the product into the portal."""
        browser = Client(enforce_csrf_checks=True)
        answer = browser.get(self.link(**asked))
        assert answer.status_code == 303, answer.content
        return browser

    def url(self, path="tokens/", house=None):
        return f"/embedded/{self.house.environment.slug}/t/{(house or self.house).tenant.slug}/{path}"

    def sends(self, browser, path, **fields):
        page = browser.get(self.url(path)).content.decode()
        hidden = dict(re.findall(r'name="(nonce|csrfmiddlewaretoken|version)" value="([^"]+)"', page))
        return browser.post(self.url(path), {**hidden, **fields})


@pytest.fixture
def product(acme):
    return Product(acme)


def grace():
    return User.objects.get(voucher_user_id=GRACE["id"])


def is_closed(answer):
    return answer.status_code == 403 and b"Open it again from where you came" in answer.content


# Opening


def test_a_link_opens_the_tenants_tokens_for_somebody_the_product_knows(product, acme):
    answer = product.asks(return_url=f"{FRAME}/settings", locale="de")
    session = PortalSession.objects.get()
    assert answer.status_code == 201
    assert answer.json() == {
        "id": str(session.id),
        "url": ANY,
        "expires_at": iso(session.created_at + LINK_VALID),
    }
    assert answer.headers["Cache-Control"] == "no-store"
    slug = acme.environment.slug
    assert re.fullmatch(rf"{settings.ORIGIN}/embedded/{slug}/open/[\w-]{{43}}/", answer.json()["url"])
    person, member = grace(), session.membership
    assert (person.voucher_id, person.email, person.name) == (acme.environment.id, GRACE["email"], GRACE["name"])
    assert not person.has_usable_password()
    assert [role.key for role in member.roles.all()] == ["member"]
    assert member.tenant == acme.tenant

    browser = Client()
    entered = browser.get(answer.json()["url"].removeprefix(settings.ORIGIN))
    assert (entered.status_code, entered.headers["Location"]) == (303, product.url())
    assert "no-store" in entered.headers["Cache-Control"]
    page = browser.get(product.url())
    assert page.status_code == 200
    assert (
        f'<a class="button button-plain button-small" href="{FRAME}/settings" target="_top">' in page.content.decode()
    )


def test_what_happens_is_in_the_record_with_who_asked_and_for_whom(product, acme):
    browser = product.browser()
    made, came = event("portal_session.created"), event("portal_session.opened")
    session = PortalSession.objects.get()
    assert (made.actor_id, made.on_behalf_of, made.target_id) == (product.issued.token.id, grace().id, session.id)
    everything = ["tokens", "members", "roles", "usage", "audit"]
    assert made.after == {"user": str(grace().id), "sections": everything}
    joined = event("membership.created")
    assert (joined.actor_id, joined.on_behalf_of) == (product.issued.token.id, grace().id)
    assert (came.actor_id, came.target_id, came.ip) == (grace().id, session.id, "127.0.0.1")
    assert {found.tenant_id for found in (made, came, joined)} == {acme.tenant.id}
    made_here = product.sends(browser, "tokens/new/", name="CI", owner="tenant", kind="access_token", roles="member")
    assert made_here.status_code == 200, made_here.content
    assert event("apitoken.issued").actor_id == grace().id


def test_neither_the_link_nor_who_somebody_is_lies_in_the_record_or_in_the_database(product):
    key = product.link().split("/")[-2]
    stored = everything_stored()
    assert not [table for table, rows in stored.items() if any(key in row for row in rows)]
    named = [table for table, rows in stored.items() if any(GRACE["email"] in row for row in rows)]
    assert named == ["accounts_user"]
    assert _CREDENTIAL.sub("*", f"/embedded/production/open/{key}/") == "/embedded/production/open/*/"


def test_what_is_said_of_somebody_replaces_what_was_said_before(product):
    product.link()
    first = grace()
    product.link(user={"id": GRACE["id"], "email": "g.hopper@acme.example", "name": "Rear Admiral Hopper"})
    assert User.objects.filter(voucher_user_id=GRACE["id"]).count() == 1
    again = grace()
    assert (again.pk, again.email, again.name) == (first.pk, "g.hopper@acme.example", "Rear Admiral Hopper")
    assert event("portal_session.created").after["changed"] == ["email", "name"]
    product.link(user={"id": GRACE["id"]})
    assert grace().email is None


def test_roles_given_later_replace_those_somebody_has_and_without_them_they_stay(product):
    def roles():
        return sorted(role.key for role in grace().memberships.get().roles.all())

    product.link(roles=["member"])
    product.link(roles=["viewer"])
    assert roles() == ["viewer"]
    changed = event("membership.roles_changed")
    assert (changed.before["roles"], changed.after["roles"]) == (["member"], ["viewer"])
    assert changed.on_behalf_of == grace().id
    product.link(roles=None)
    assert roles() == ["viewer"]


@pytest.mark.parametrize("asked", [None, []])
def test_somebody_new_needs_a_role(product, asked):
    before = everything_stored(but=("audit_auditevent", "audit_person", "apitokens_usagehour"))
    answer = product.asks(roles=asked)
    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["roles"])
    assert everything_stored(but=("audit_auditevent", "audit_person", "apitokens_usagehour")) == before


def test_the_same_person_of_the_product_is_one_person_in_all_its_tenants(world, product):
    product.link()
    product.link(tenant=world.globex.tenant.external_id)
    assert grace().memberships.count() == 2
    browser = product.browser()
    assert browser.get(product.url()).status_code == 200
    assert browser.get(product.url(house=world.globex)).status_code == 404
    assert world.globex.tenant.name.encode() not in browser.get(product.url()).content


# Who they are: never by e-mail (R12)


def test_somebody_elses_email_opens_nothing_of_theirs(world, product):
    ada = world.acme.people["admin"].user
    browser = product.browser(user={"id": "mallory", "email": ada.email}, roles=["viewer"])
    mallory = User.objects.get(voucher_user_id="mallory")
    assert mallory.pk != ada.pk
    assert [member.tenant for member in mallory.memberships.all()] == [world.acme.tenant]
    assert [browser.get(product.url(path)).status_code for path in ("tokens/", "members/")] == [200, 403]
    assert [role.key for role in world.acme.people["admin"].roles.all()] == ["admin"]
    for elsewhere in ("/", world.acme.url(), "/account/"):
        assert browser.get(elsewhere).headers.get("Location", "").startswith("/accounts/login/")


def test_the_same_id_in_another_environment_is_another_person(world, product):
    product.link()
    Product(world.acme_staging).link()
    found = User.objects.filter(voucher_user_id=GRACE["id"])
    assert {person.voucher_id for person in found} == {world.production.id, world.staging.id}
    assert [person.memberships.count() for person in found] == [1, 1]


def test_the_way_back_is_into_the_product_that_the_page_is_of(world, product):
    browser = product.browser(return_url=f"{FRAME}/settings")
    world.acme.people["owner"].tenant.portal_sessions.all().delete()
    for environment, is_shown in ((world.production, True), (world.staging, False)):
        closed = browser.get(f"/embedded/{environment.slug}/")
        assert is_closed(closed)
        assert (f'href="{FRAME}/settings"' in closed.content.decode()) == is_shown


def test_a_link_works_in_its_own_environment_alone(world, product):
    link = product.link()
    elsewhere = link.replace(world.production.slug, world.staging.slug)
    assert is_closed(Client().get(elsewhere))
    assert Client().get(link).status_code == 303


# Who may open one, and with which roles (R3)


def _member_session(product):
    browser = product.house.browser("owner")
    product.house.form(browser)
    body = {"tenant": str(product.house.tenant.id), "user": GRACE, "roles": ["viewer"]}
    headers = {"X-CSRFToken": browser.cookies["csrftoken"].value}
    return browser.post("/api/v1/portal-sessions", body, content_type="application/json", headers=headers)


def _vendors_person(product, office):
    body = {"tenant": str(product.house.tenant.id), "user": GRACE, "roles": ["viewer"]}
    return office.api("owner", "POST", "portal-sessions", body, environment=product.house.environment)


@pytest.mark.parametrize(
    ("call", "status", "code"),
    [
        pytest.param(lambda product, _: product.asks(), 201, None, id="the-backend"),
        pytest.param(lambda product, _: _member_session(product), 403, "needs_environment_token", id="a-member"),
        pytest.param(_vendors_person, 403, "needs_environment_token", id="the-vendors-owner"),
        pytest.param(
            lambda product, _: product.asks(token=product.house.issue("owner", roles=["owner"]).plaintext),
            403,
            "needs_environment_token",
            id="a-tenants-token",
        ),
        pytest.param(
            lambda product, _: product.asks(
                token=product.house.issue_for_environment(
                    name="Reader", kind="access_token", roles=[], permissions=["tenants:read"]
                ).plaintext
            ),
            403,
            "insufficient_scope",
            id="a-token-without-the-permission",
        ),
    ],
)
def test_only_the_environments_own_tokens_that_may_open_one(product, office, call, status, code):
    answer = call(product, office)
    assert (answer.status_code, answer.json().get("code")) == (status, code), answer.content
    assert PortalSession.objects.count() == (status == 201)


@pytest.mark.parametrize(
    ("own", "asked", "status"),
    [
        pytest.param(50, "admin", 201, id="below-its-own"),
        pytest.param(30, "admin", 201, id="as-high-as-its-own"),
        pytest.param(29, "admin", 403, id="above-its-own"),
    ],
)
def test_a_backend_opens_it_with_roles_up_to_its_own(world, own, asked, status):
    product = Product(world.acme)
    role = world.acme.role("backend")
    role.level = own
    role.save()
    type(role).objects.filter(environment=world.production, key="admin").update(level=30)
    answer = product.asks(roles=[asked])
    assert answer.status_code == status, answer.content
    if status == 403:
        assert answer.json()["code"] == "role_above_ceiling"
        assert not User.objects.filter(voucher_user_id=GRACE["id"]).exists()


def test_a_backend_without_roles_hands_out_none_but_lets_nobody_in_with_more_than_it_covers(world, product):
    product.link(roles=["member"])
    narrow = world.acme.issue_for_environment(
        name="Narrow", kind="access_token", roles=[], permissions=["portal-sessions:create"]
    )
    for roles in (["viewer"], None):
        answer = product.asks(token=narrow.plaintext, roles=roles)
        assert answer.status_code == 403, answer.content
    assert [role.key for role in grace().memberships.get().roles.all()] == ["member"]


def test_a_jwt_bound_to_one_tenant_opens_no_other(world, machine, product):
    client = world.acme.issue_for_environment(name="Client", kind="client_credentials")
    jwt = jwt_of(machine, client, tenant=str(world.acme.tenant.id))
    assert product.asks(token=jwt, tenant=None).status_code == 201
    assert product.asks(token=jwt, tenant=str(world.globex.tenant.id)).status_code == 404


def test_the_last_keeper_stays_one(world, product):
    for member in world.acme.people.values():
        members.remove(by=system(world.production), membership=member, at=timezone.now())
    product.link(roles=["owner"])
    answer = product.asks(roles=["viewer"])
    assert (answer.status_code, answer.json()["code"]) == (409, "last_owner")


@pytest.mark.parametrize(
    ("asked", "status", "field"),
    [
        ({}, 201, None),
        ({"tenant": None}, 400, "tenant"),
        ({"tenant": "nobody-of-ours"}, 404, None),
        ({"user": None}, 400, "user"),
        ({"user": {"email": "grace@acme.example"}}, 400, "user.id"),
        ({"user": {"id": "a\nb"}}, 400, "user"),
        ({"user": {"id": "x" * 256}}, 400, "user.id"),
        ({"user": {"id": "x", "email": "no address"}}, 400, "user"),
        ({"user": {"id": "x", "admin": True}}, 400, "user.admin"),
        ({"roles": ["nosuch"]}, 400, "roles"),
        ({"sections": []}, 400, "sections"),
        ({"sections": ["console"]}, 400, "sections.0"),
        ({"locale": "<de>"}, 400, "locale"),
        ({"return_url": f"{FRAME}/settings?tab=api#keys"}, 201, None),
        ({"return_url": "https://evil.example/"}, 400, "return_url"),
        ({"return_url": f"{FRAME}.evil.example/"}, 400, "return_url"),
        ({"return_url": f"{FRAME}@evil.example/"}, 400, "return_url"),
        ({"return_url": f"{FRAME}\\@evil.example/"}, 400, "return_url"),
        ({"return_url": "javascript:alert(1)"}, 400, "return_url"),
        ({"return_url": "//app.bolt.example/"}, 400, "return_url"),
        ({"return_url": "http://app.bolt.example/"}, 400, "return_url"),
        ({"return_url": "/settings"}, 400, "return_url"),
    ],
)
def test_what_makes_no_sense_is_refused_by_the_name_of_its_field(product, asked, status, field):
    answer = product.asks(**asked)
    assert answer.status_code == status, answer.content
    if status == 400:
        assert list(answer.json()["errors"]) == [field]
    assert PortalSession.objects.count() == (status == 201)


def test_a_strangers_tenant_is_as_one_that_never_was(world, product):
    never, strangers = product.asks(tenant="never"), product.asks(tenant=str(world.acme_staging.tenant.id))
    assert (never.status_code, never.json()) == (strangers.status_code, strangers.json()) == (404, ANY)


# Suspended and removed people


def test_who_is_suspended_stays_out_and_who_was_removed_is_let_in_anew(world, product):
    browser = product.browser()
    member, at = grace().memberships.get(), timezone.now()
    members.suspend(by=system(world.production), membership=member, at=at)
    assert is_closed(browser.get(product.url()))
    refused = product.asks()
    assert (refused.status_code, refused.json()["code"]) == (403, "member_suspended")
    members.remove(by=system(world.production), membership=member, at=at)
    without = product.asks(roles=None)
    assert (without.status_code, list(without.json()["errors"])) == (400, ["roles"])
    again = product.browser(roles=["viewer"])
    assert again.get(product.url()).status_code == 200
    member.refresh_from_db()
    assert (member.ended_at, member.suspended_at) == (None, None)
    assert [role.key for role in member.roles.all()] == ["viewer"]
    assert event("membership.resumed").on_behalf_of == grace().id
    assert is_closed(browser.get(product.url()))


# The link: once, for a minute


def test_a_link_works_once_and_a_used_an_old_and_an_unknown_one_are_told_the_same(product):
    used, old = product.link(), product.link()
    assert Client().get(used).status_code == 303
    PortalSession.objects.filter(opened_at=None).update(
        link_expires_at=timezone.now(), created_at=timezone.now() - LINK_VALID
    )
    unknown = used.replace(used.split("/")[-2], "x" * 43)
    answers = [Client().get(link) for link in (used, old, unknown)]
    assert all(is_closed(answer) for answer in answers)
    bodies = {re.sub(r'value="[^"]+"', "", answer.content.decode()) for answer in answers}
    assert len(bodies) == 1
    assert not any(answer.cookies for answer in answers)


def test_a_link_is_good_for_a_minute(product):
    link, session = product.link(), PortalSession.objects.get()
    assert session.link_expires_at - session.created_at == timedelta(seconds=60)
    just_in_time = session.link_expires_at - timedelta(microseconds=1)
    found = {at: PortalSession.objects.live(at=at).count() for at in (just_in_time, session.link_expires_at)}
    assert found == {just_in_time: 1, session.link_expires_at: 0}
    assert Client().get(link).status_code == 303


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("HEAD", {}),
        ("GET", {"Sec-Purpose": "prefetch"}),
        ("GET", {"Sec-Purpose": "prefetch;prerender"}),
        ("GET", {"Purpose": "prefetch"}),
    ],
)
def test_whoever_only_looks_ahead_does_not_use_it_up(product, method, headers):
    link = product.link()
    ahead = Client().generic(method, link, headers=headers)
    assert (ahead.status_code, ahead.content, len(ahead.cookies)) == (425, b"", 0)
    assert Client().generic(method, link.replace("/open/", "/open/x"), headers=headers).status_code == 425
    assert Client().get(link).status_code == 303


def test_no_form_is_sent_to_a_link(product):
    assert Client().post(product.link()).status_code == 405


def test_going_back_to_the_link_leads_on_in_the_browser_that_opened_it_alone(product):
    link, browser = product.link(), Client()
    for _ in range(2):
        assert browser.get(link).headers["Location"] == product.url()
    assert is_closed(Client().get(link))
    assert is_closed(product.browser(user={"id": "linus"}).get(link))


# The session


def test_it_is_idle_for_an_hour_at_most(product):
    browser, now = product.browser(), timezone.now()
    PortalSession.objects.update(last_seen_at=now - IDLE + timedelta(seconds=30))
    assert browser.get(product.url()).status_code == 200
    session = PortalSession.objects.get()
    assert now - session.last_seen_at < timedelta(seconds=5)
    PortalSession.objects.update(last_seen_at=timezone.now() - IDLE)
    assert is_closed(browser.get(product.url()))


def test_it_lasts_eight_hours_at_most_however_busy(product):
    browser = product.browser()
    session = PortalSession.objects.get()
    assert session.ends_at - session.created_at == timedelta(hours=8)
    assert browser.cookies["embedded-sessionid"]["max-age"] == 8 * 3600
    over = timezone.now() - LONGEST
    PortalSession.objects.update(
        created_at=over, link_expires_at=over + LINK_VALID, ends_at=timezone.now() + timedelta(seconds=30)
    )
    assert browser.get(product.url()).status_code == 200
    PortalSession.objects.update(ends_at=timezone.now())
    assert is_closed(browser.get(product.url()))


def test_it_ends_no_later_than_the_token_that_opened_it(acme):
    product = Product(acme, expires_at=timezone.now() + timedelta(minutes=10))
    product.link()
    assert PortalSession.objects.get().ends_at == product.issued.token.expires_at


def _end_it(product):
    assert product.call("DELETE", f"/{PortalSession.objects.get().id}").status_code == 204


def _end_all(product):
    path = f"?tenant={product.house.tenant.id}&user={GRACE['id']}"
    assert product.call("DELETE", path).status_code == 204


def _suspend_tenant(product):
    tenants.suspend(by=system(product.house.environment), tenant=product.house.tenant, at=timezone.now())


def _disable_token(product):
    ApiToken.objects.filter(pk=product.issued.token.pk).update(disabled_at=timezone.now())


def _end_jwts(product):
    token = product.issued.token
    ApiToken.objects.filter(pk=token.pk).update(generation=token.generation + 1)


ENDS = [
    pytest.param(_end_it, id="by-its-id"),
    pytest.param(_end_all, id="by-the-person"),
    pytest.param(_suspend_tenant, id="tenant-suspended"),
    pytest.param(
        lambda product: members.suspend(
            by=system(product.house.environment), membership=grace().memberships.get(), at=timezone.now()
        ),
        id="member-suspended",
    ),
    pytest.param(
        lambda product: members.remove(
            by=system(product.house.environment), membership=grace().memberships.get(), at=timezone.now()
        ),
        id="member-removed",
    ),
    pytest.param(_disable_token, id="token-disabled"),
    pytest.param(lambda product: product.issued.token.delete(), id="token-deleted"),
    pytest.param(_end_jwts, id="jwts-of-the-token-ended"),
]


@pytest.mark.parametrize("ending", ENDS)
def test_what_ends_it_ends_it_at_once_and_its_link_too(product, ending):
    browser, other = product.browser(), None
    assert browser.get(product.url()).status_code == 200
    if ending is not _end_it:
        other = product.link()
    ending(product)
    assert is_closed(browser.get(product.url()))
    assert other is None or is_closed(Client().get(other))


def test_a_link_that_was_ended_opens_nothing(product):
    link = product.link()
    _end_it(product)
    assert is_closed(Client().get(link))
    assert event("portal_session.ended").before == {"user": str(grace().id), "sections": ANY}


def test_what_was_stopped_once_stays_ended(product):
    browser, by, at = product.browser(), system(product.house.environment), timezone.now()
    _suspend_tenant(product)
    tenants.reinstate(by=by, tenant=product.house.tenant, at=at)
    assert is_closed(browser.get(product.url()))
    again, member = product.browser(), grace().memberships.get()
    members.suspend(by=by, membership=member, at=at)
    members.reinstate(by=by, membership=member, at=at)
    assert is_closed(again.get(product.url()))


def test_below_an_environment_that_is_stopped_there_is_nothing(world, product):
    browser = product.browser()
    type(world.production).objects.filter(pk=world.production.pk).update(suspended_at=timezone.now())
    answers = [client.get(product.url()) for client in (browser, Client())]
    never = Client().get(product.url().replace(world.production.slug, "never"))
    assert [answer.status_code for answer in (*answers, never)] == [404, 404, 404]
    assert "frame-ancestors 'none'" in answers[0].headers["Content-Security-Policy"]


def test_one_person_has_a_bounded_number_of_them(product, monkeypatch):
    monkeypatch.setattr(portal_sessions, "MOST_LIVE", 3)
    assert MOST_LIVE == 50
    browsers = [product.browser() for _ in range(4)]
    assert [browser.get(product.url()).status_code for browser in browsers] == [403, 200, 200, 200]
    assert AuditEvent.objects.filter(verb="portal_session.ended").count() == 1


def test_housekeeping_takes_what_is_over_and_leaves_what_is_live(product):
    product.browser()
    product.link(user={"id": "linus"})
    over = {name: product.asks(user={"id": name}).json()["id"] for name in ("late", "idle", "done")}
    now = timezone.now()
    long_ago = {"created_at": now - 2 * LONGEST, "link_expires_at": now - LONGEST}
    PortalSession.objects.filter(pk=over["late"]).update(**long_ago)
    PortalSession.objects.filter(pk=over["idle"]).update(opened_at=now - IDLE, last_seen_at=now - IDLE)
    PortalSession.objects.filter(pk=over["done"]).update(**long_ago, ends_at=now, opened_at=now, last_seen_at=now)
    housekeeping.run()
    left = PortalSession.objects.values_list("membership__user__voucher_user_id", flat=True)
    assert sorted(left) == ["linus", GRACE["id"]]


# The list, and ending


def test_the_list_has_the_live_ones_and_only_of_this_environment(world, product):
    Product(world.acme_staging).link()
    product.link(locale="de", sections=["audit", "tokens"])
    globex = product.asks(tenant=str(world.globex.tenant.id), user={"id": "linus"}).json()["id"]
    expired = product.asks(user={"id": "late"}).json()["id"]
    PortalSession.objects.filter(pk=expired).update(
        created_at=timezone.now() - LINK_VALID, link_expires_at=timezone.now()
    )
    session = PortalSession.objects.get(membership__tenant=world.acme.tenant, locale="de")
    body = {
        "id": str(session.id),
        "tenant": str(world.acme.tenant.id),
        "member": str(session.membership_id),
        "user": {"id": GRACE["id"], "email": GRACE["email"], "name": GRACE["name"]},
        "token": product.issued.token.token_id,
        "sections": ["tokens", "audit"],
        "locale": "de",
        "created_at": iso(session.created_at),
        "opened_at": None,
        "last_seen_at": None,
        "ends_at": iso(session.ends_at),
    }
    assert product.call("GET", f"?tenant={world.acme.tenant.id}").json() == {
        "next": None,
        "previous": None,
        "results": [body],
    }
    ids = {path: [row["id"] for row in product.call("GET", path).json()["results"]] for path in ("", "?user=linus")}
    assert ids == {"": [globex, str(session.id)], "?user=linus": [globex]}
    assert product.call("GET", "?user=%00").json()["results"] == []


def test_a_page_of_many_takes_as_many_queries_as_one_of_few(product):
    def queries():
        with CaptureQueriesContext(
            connection,
        ) as caught:
            assert product.call("GET").status_code == 200
        return len(caught)

    product.link()
    few = queries()
    for number in range(8):
        product.link(user={"id": f"u{number}"})
    assert queries() == few


def test_ending_all_of_a_person_ends_nobody_elses(world, product):
    mine, elsewhere = product.browser(), product.browser(tenant=str(world.globex.tenant.id))
    theirs = product.browser(user={"id": "linus"})
    _end_all(product)
    assert is_closed(mine.get(product.url()))
    assert elsewhere.get(product.url(house=world.globex)).status_code == 200
    assert theirs.get(product.url()).status_code == 200
    assert product.call("DELETE", f"?user={GRACE['id']}").status_code == 204
    assert is_closed(elsewhere.get(product.url(house=world.globex)))
    missing = product.call("DELETE")
    assert (missing.status_code, list(missing.json()["errors"])) == (400, ["user"])


def test_another_environment_sees_and_ends_none_of_them(world, product):
    browser, staging = product.browser(), Product(world.acme_staging)
    session = PortalSession.objects.get()
    assert staging.call("GET").json()["results"] == []
    strangers, never = (staging.call("DELETE", f"/{pk}") for pk in (session.id, product.issued.token.id))
    assert (strangers.status_code, strangers.json()) == (never.status_code, never.json()) == (404, ANY)
    assert staging.call("DELETE", f"?user={GRACE['id']}").status_code == 204
    assert browser.get(product.url()).status_code == 200


def test_the_vendors_people_see_them_and_can_end_them_and_auditors_look(product, office):
    product.link()
    path, environment = "portal-sessions", product.house.environment
    assert len(office.api("auditor", "GET", path, environment=environment).json()["results"]) == 1
    one = f"{path}/{PortalSession.objects.get().id}"
    assert office.api("auditor", "DELETE", one, environment=environment).status_code == 403
    assert office.api("admin", "DELETE", one, environment=environment).status_code == 204
    assert not PortalSession.objects.exists()


@pytest.mark.parametrize("person", ["viewer", "owner"])
def test_a_tenants_people_neither_see_nor_end_them(product, person):
    product.link()
    tenant = product.house.tenant.id
    for method in ("GET", "DELETE"):
        answer = product.house.api(person, method, f"portal-sessions?tenant={tenant}&user={GRACE['id']}")
        assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope")
    assert PortalSession.objects.count() == 1


# What is shown


def test_sections_limit_what_is_there(product):
    browser = product.browser(roles=["admin"], sections=["tokens"])
    page = browser.get(product.url()).content.decode()
    assert "tabs-bar" not in page
    found = {
        path: browser.get(product.url(path)).status_code
        for path in (
            "",
            "tokens/",
            "tokens/new/",
            "tokens.csv",
            "members/",
            "roles/",
            "usage/",
            "audit/",
            "audit.csv",
            "leave/",
        )
    }
    assert [path for path, status in found.items() if status == 404] == [
        "members/", "roles/", "usage/", "audit/", "audit.csv", "leave/",
    ]  # fmt: skip
    assert {found[path] for path in ("tokens/", "tokens/new/", "tokens.csv")} == {200}


def test_the_first_section_somebody_may_see_is_where_they_begin(world, product):
    RoleFactory(environment=world.production, key="clerk", name="Clerk", level=5)
    hold(world.acme.role("clerk"), ["audit:read", "members:read"])
    link = product.link(roles=["clerk"])
    assert Client().get(link).headers["Location"] == product.url("members/")
    link = product.link(roles=["clerk"], sections=["audit"])
    assert Client().get(link).headers["Location"] == product.url("audit/")
    link = product.link(roles=["admin"], sections=["audit"])
    assert Client().get(link).headers["Location"] == product.url("tokens/")


def test_everything_is_there_for_who_may_see_everything_and_no_link_leads_out(product):
    browser = product.browser(roles=["owner"])
    made = product.sends(browser, "tokens/new/", name="CI", owner="tenant", kind="access_token", roles="member")
    assert made.status_code == 200
    token_id = ApiToken.objects.get(name="CI").token_id
    member, role = grace().memberships.get(), product.house.role("viewer")
    paths = [
        "tokens/", "tokens/new/", f"tokens/{token_id}/", f"tokens/{token_id}/edit/", f"tokens/{token_id}/rotate/",
        f"tokens/{token_id}/delete/", "members/", "members/invite/", f"members/{member.id}/", "leave/", "roles/",
        "roles/new/", f"roles/{role.id}/", "usage/", "audit/",
    ]  # fmt: skip
    prefix = f"/embedded/{product.house.environment.slug}/"
    for path in paths:
        answer = browser.get(product.url(path))
        assert answer.status_code == 200, (path, answer.status_code)
        page = re.sub(r"<link [^>]+>", "", answer.content.decode())
        addresses = re.findall(r'(?:href|action)="([^"]*)"', page)
        out = [url for url in addresses if url.startswith("/") and not url.startswith(prefix)]
        assert [url for url in out if not url.startswith("/api/docs")] == [], path
    refused = browser.get(product.url("tokens/000000000000/"))
    assert refused.status_code == 404
    assert f'href="{prefix}"' in refused.content.decode()
    assert browser.get(prefix).headers["Location"] == product.url()


@pytest.mark.parametrize(
    "path",
    ["account/", "account/tokens/", "accounts/login/", "accounts/logout/", "console/", "api/v1/tokens", "oauth2/token",
     "invitations/x/", "admin/", "healthz", "styleguide/"],
)  # fmt: skip
def test_nothing_but_the_tenants_pages_is_there(product, path):
    browser = product.browser(roles=["owner"])
    assert browser.get(f"/embedded/{product.house.environment.slug}/{path}").status_code == 404


def test_the_address_of_links_is_no_address_elsewhere(product):
    assert Client().get("/open/abc/").status_code == 404


def test_it_speaks_the_language_of_the_product(product):
    page = product.browser(locale="de-AT").get(product.url())
    assert '<html lang="de"' in page.content.decode()
    assert '<html lang="en' in product.browser(locale="xx").get(product.url()).content.decode()


# Proof, cookies, forms and frames


def test_coming_from_the_product_is_the_proof_and_it_grows_old(product):
    browser = product.browser(return_url=f"{FRAME}/back")
    assert browser.get(product.url("tokens/new/")).status_code == 200
    type(product.house.environment).objects.update(reauthenticate_after=60)
    key = "account_authentication_methods"
    session = browser_session(browser)
    records = session[key]
    records[-1]["at"] -= 61
    session[key] = records
    session.save()
    asked = browser.get(product.url("tokens/new/"))
    assert asked.status_code == 403
    text = asked.content.decode()
    assert "open this place from there again" in text
    assert text.count(f'href="{FRAME}/back" target="_top"') == 2
    assert product.browser().get(product.url("tokens/new/")).status_code == 200


def browser_session(browser):
    return SessionStore(browser.cookies["embedded-sessionid"].value)


APART = "HttpOnly; Max-Age={age}; Path=/; SameSite=None; Secure; Partitioned"


def test_the_cookies_are_partitioned_and_have_names_of_their_own(product):
    cookies = Client().get(product.link()).cookies
    assert set(cookies) == COOKIES
    for name, value, age in (("sessionid", "[a-z0-9]{32}", 28_800), ("csrftoken", r"\w{32}", 31_449_600)):
        header = cookies[f"embedded-{name}"].output(header="").strip()
        assert re.fullmatch(rf"embedded-{name}={value}; expires=[^;]+; {APART.format(age=age)}", header)


@override_settings(SESSION_COOKIE_SECURE=True, SESSION_COOKIE_NAME="__Host-session", CSRF_COOKIE_NAME="__Host-csrf")
def test_under_tls_the_browser_holds_them_to_this_host(product):
    browser = product.browser()
    assert set(browser.cookies) == {"__Host-embedded-session", "__Host-embedded-csrf"}
    assert browser.get(product.url()).status_code == 200


def test_it_is_apart_from_whoever_is_signed_in_in_the_same_browser(product, acme):
    browser = acme.browser("admin")
    before = browser.cookies["sessionid"].value
    browser.get(product.link())
    assert browser.cookies["sessionid"].value == before
    assert b"Grace Hopper" not in browser.get(acme.url()).content
    assert acme.people["admin"].user.name.encode() in browser.get(acme.url()).content
    made = product.sends(browser, "tokens/new/", name="CI", owner="tenant", kind="access_token", roles="member")
    assert made.status_code == 200
    assert event("apitoken.issued").actor_id == grace().id
    _end_all(product)
    assert is_closed(browser.get(product.url()))
    assert browser.get(acme.url()).status_code == 200


def test_a_local_sign_in_opens_no_embedded_page_and_an_embedded_session_no_other(product, acme):
    assert is_closed(acme.browser("admin").get(product.url()))
    carried = Client()
    carried.cookies["sessionid"] = product.browser().cookies["embedded-sessionid"].value
    assert carried.get(acme.url()).headers["Location"].startswith("/accounts/login/")
    carried.cookies["embedded-sessionid"] = acme.browser("admin").cookies["sessionid"].value
    assert is_closed(carried.get(product.url()))


def test_a_new_link_leaves_nothing_of_who_was_there_before(product):
    browser = product.browser()
    before = {name: browser.cookies[name].value for name in COOKIES}
    old = browser_session(browser).session_key
    browser.get(product.link(user={"id": "linus"}))
    assert all(browser.cookies[name].value != value for name, value in before.items())
    stale = Client()
    stale.cookies["embedded-sessionid"] = old
    assert is_closed(stale.get(product.url()))


def test_a_form_needs_its_token_and_its_origin(product):
    browser = product.browser()
    fields = {"name": "CI", "owner": "tenant", "kind": "access_token", "roles": "member"}
    assert browser.post(product.url("tokens/new/"), fields).status_code == 403
    page = browser.get(product.url("tokens/new/")).content.decode()
    hidden = dict(re.findall(r'name="(nonce|csrfmiddlewaretoken)" value="([^"]+)"', page))
    framed = {"Origin": FRAME}
    assert browser.post(product.url("tokens/new/"), {**hidden, **fields}, headers=framed).status_code == 403
    made = browser.post(product.url("tokens/new/"), {**hidden, **fields}, headers={"Origin": "http://testserver"})
    assert made.status_code == 200
    assert "access_token" in shown(made)


def test_only_listed_origins_frame_it_and_nobody_anything_else(product, acme):
    browser, signed_in = product.browser(), acme.browser("admin")
    framed = [browser.get(product.url()), Client().get(product.url()), browser.get(product.url("nosuch/"))]
    for answer in framed:
        assert f"frame-ancestors {FRAME};" in answer.headers["Content-Security-Policy"] + ";"
        assert "X-Frame-Options" not in answer.headers
    for answer in (signed_in.get(acme.url()), Client().get("/accounts/login/")):
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Frame-Options"] == "DENY"
    type(acme.environment).objects.update(embedding_origins=[])
    unlisted = browser.get(product.url())
    assert unlisted.status_code == 200
    assert "frame-ancestors 'none'" in unlisted.headers["Content-Security-Policy"]
    assert unlisted.headers["X-Frame-Options"] == "DENY"


def test_a_theme_chosen_in_a_frame_is_kept_there_alone(product):
    browser = product.browser()
    page = browser.get(product.url())
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.content.decode())[1]
    came = {"Referer": f"http://testserver{product.url()}"}
    theme = f"/embedded/{product.house.environment.slug}/theme/"
    chosen = browser.post(theme, {"csrfmiddlewaretoken": token, "theme": "dark"}, headers=came)
    assert chosen.headers["Location"] == product.url()
    assert chosen.cookies["embedded-theme"].output().endswith("; SameSite=None; Secure; Partitioned")
    assert 'data-theme="dark"' in browser.get(product.url()).content.decode()
    assert 'data-theme="dark"' not in browser.get("/accounts/login/").content.decode()
