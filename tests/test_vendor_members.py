"""The vendor's own people: its owners decide about them, one of whom always stays (R3, R5)."""

import re
from uuid import uuid4

import pytest
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from apitokens import principals
from apitokens.governance import vendor_members
from apitokens.models import ApiToken, Secret
from audit.models import AuditEvent
from tenants.models import Invitation, VendorMembership, VendorMembershipEnvironment
from tests.cast import accept, bearer, everything_stored, iso, join, just_signed_in
from tests.factories import UserFactory, VendorFactory, VendorMembershipFactory
from tests.racing import Call, held, wait_for_blocked

NEW = "new@example.com"


def ask(world, who, method, path="", body=None, environment=None, **headers):
    path = f"vendor-members{path}"
    return world.office.api(who, method, path, body, environment=environment or world.production, **headers)


def invite(world, who="owner", email=NEW, role="admin", environments=None):
    body = {"email": email, "role": role, "environments": environments}
    return world.office.api(who, "POST", "vendor-invitations", body, environment=world.production)


def post(world, who, path, **fields):
    """What the console's form sends, with these fields filled in."""
    browser = world.office.browser(who)
    hidden = world.office.hidden(browser, world.production, path)
    return browser.post(world.office.url(world.production, path), {**hidden, **fields})


def covers(member, *environments):
    """Let the person cover these alone."""
    VendorMembership.objects.filter(pk=member.pk).update(in_all_environments=False)
    VendorMembershipEnvironment.objects.bulk_create(
        VendorMembershipEnvironment(vendor_membership=member, environment=environment, vendor=member.vendor)
        for environment in environments
    )


ACTS = {
    "invite": ("POST", "", 201),
    "change": ("PATCH", "/{id}", 200),
    "suspend": ("POST", "/{id}/suspend", 200),
    "remove": ("DELETE", "/{id}", 204),
}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("target", ["owner", "admin", "auditor"])
@pytest.mark.parametrize("own", ["owner", "admin", "auditor"])
def test_owners_alone_decide_about_the_vendors_people(world, own, target, act):
    whom = VendorMembershipFactory(vendor=world.vendor, role=target)
    before = everything_stored()["tenants_vendormembership"]
    method, path, status = ACTS[act]
    if act == "invite":
        answer = invite(world, own, role=target)
    else:
        body = {"role": "auditor", "environments": [world.staging.slug]} if act == "change" else None
        answer = ask(world, own, method, path.format(id=whom.id), body)
    if own == "owner":
        assert answer.status_code == status, answer.content
    else:
        code = "insufficient_scope" if own == "auditor" else "owners_only"
        assert (answer.status_code, answer.json()["code"]) == (403, code)
    changed = everything_stored()["tenants_vendormembership"] != before
    assert changed == (own == "owner" and act != "invite")
    assert Invitation.objects.exists() == (own == "owner" and act == "invite")


def test_everybody_who_opens_the_console_sees_who_works_for_the_vendor(world):
    for who in ("owner", "admin", "auditor"):
        listed = ask(world, who, "GET").json()["results"]
        assert {row["id"] for row in listed} == {str(member.id) for member in world.office.people.values()}
    admin = world.office.people["admin"]
    assert ask(world, "auditor", "GET", f"/{admin.id}").json() == {
        "id": str(admin.id),
        "user": str(admin.user_id),
        "name": admin.user.name,
        "email": admin.user.email,
        "role": "admin",
        "environments": None,
        "suspended_at": None,
        "created_at": iso(admin.created_at),
    }


def test_tokens_and_members_of_tenants_have_no_say_in_it(world, acme):
    token = acme.issue_for_environment(kind="access_token").plaintext
    for path in ("vendor-members", "vendor-invitations"):
        answer = Client().get(f"/api/v1/{path}", headers=bearer(token))
        assert (answer.status_code, answer.json()["code"]) == (403, "out_of_reach")
        assert "only its owners do, signed in as themselves" in answer.json()["detail"]
        assert acme.api("owner", "GET", f"{path}?environment={world.production.slug}").status_code == 404
        assert acme.api("owner", "GET", path).status_code == 400


def test_people_of_another_vendor_are_like_none(world):
    stranger = VendorMembershipFactory(vendor=VendorFactory())
    for method, act in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/suspend"), ("POST", "/reinstate")):
        answers = [
            ask(world, "owner", method, f"/{member}{act}", {"role": "admin"} if method == "PATCH" else None)
            for member in (stranger.id, uuid4())
        ]
        assert [answer.status_code for answer in answers] == [404, 404]
        assert answers[0].content == answers[1].content


# Inviting and joining.


@pytest.mark.parametrize("listed", [False, True], ids=["everywhere", "staging-only"])
def test_somebody_invited_works_for_the_vendor_where_they_were_invited_to(world, listed):
    slugs = [world.staging.slug] if listed else None
    made = invite(world, environments=slugs).json()
    assert (made["role"], made["environments"], made["email"]) == ("admin", slugs, NEW)
    browser = Client(enforce_csrf_checks=True)
    link = made["link"].removeprefix("http://localhost:8000")
    assert world.vendor.name in browser.get(link).content.decode()
    assert accept(browser, link, name="Nia", password="correct horse battery").status_code == 302
    assert browser.get(f"/console/{world.staging.slug}/").status_code == 200
    assert browser.get(f"/console/{world.production.slug}/").status_code == (404 if listed else 200)
    member = VendorMembership.objects.get(user__email=NEW)
    where = AuditEvent.objects.filter(verb="vendor_membership.created", target_id=member.id)
    expected = {world.staging.id} if listed else {world.staging.id, world.production.id}
    assert set(where.values_list("environment_id", flat=True)) == expected


@pytest.mark.parametrize("fall", ["nothing", "demoted", "suspended", "left"])
def test_an_invitation_to_the_vendor_is_worth_what_its_sender_still_is(world, fall):
    VendorMembershipFactory(vendor=world.vendor)
    link = invite(world).json()["link"].removeprefix("http://localhost:8000")
    sender = VendorMembership.objects.filter(pk=world.office.people["owner"].pk)
    change = {"demoted": {"role": "admin"}, "suspended": {"suspended_at": timezone.now()},
              "left": {"ended_at": timezone.now()}}.get(fall)  # fmt: skip
    if change:
        sender.update(**change)
    assert join(link).status_code == (409 if change else 302)
    assert User.objects.filter(email=NEW).exists() == (not change)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"role": "boss"}, "role"),
        ({"environments": []}, "environments"),
        ({"environments": ["nonesuch"]}, "environments"),
        ({"email": "nobody"}, "email"),
    ],
)
def test_what_makes_no_sense_is_refused_at_its_field(world, body, field):
    body = {"email": NEW, "role": "admin", "environments": None, **body}
    answer = world.office.api("owner", "POST", "vendor-invitations", body, environment=world.production)
    assert (answer.status_code, list(answer.json()["errors"])) == (400, [field])


def test_who_works_for_the_vendor_is_not_invited_again_and_who_left_comes_back_as_the_same_person(world):
    admin = world.office.people["admin"]
    assert invite(world, email=admin.user.email).json()["code"] == "already_member"
    assert ask(world, "owner", "DELETE", f"/{admin.id}").status_code == 204
    made = invite(world, email=admin.user.email, role="auditor", environments=[world.staging.slug]).json()
    link = made["link"].removeprefix("http://localhost:8000")
    assert accept(just_signed_in(admin.user), link).status_code == 302
    admin.refresh_from_db()
    assert (admin.ended_at, admin.role, admin.in_all_environments) == (None, "auditor", False)
    assert VendorMembership.objects.filter(user=admin.user).count() == 1


def test_a_revoked_invitation_opens_nothing(world):
    made = invite(world).json()
    path = f"vendor-invitations/{made['id']}"
    assert world.office.api("admin", "DELETE", path, environment=world.production).json()["code"] == "owners_only"
    listed = world.office.api("auditor", "GET", "vendor-invitations", environment=world.production).json()["results"]
    assert listed == [{name: value for name, value in made.items() if name != "link"}]
    assert world.office.api("owner", "DELETE", path, environment=world.production).status_code == 204
    assert Client().get(made["link"].removeprefix("http://localhost:8000")).status_code == 404


# An owner of some environments.


def test_an_owner_hands_out_no_environment_that_they_do_not_cover(world):
    narrow = VendorMembershipFactory(vendor=world.vendor)
    covers(narrow, world.production)
    world.office.people["narrow"] = narrow
    wide, own = VendorMembershipFactory(vendor=world.vendor, role="admin"), VendorMembershipFactory(vendor=world.vendor)
    covers(own, world.production)
    for environments, code in (([world.production.slug], None), ([world.staging.slug], 403), (None, 403)):
        answer = invite(world, "narrow", environments=environments)
        assert answer.status_code == (code or 201)
        if code:
            assert answer.json()["code"] == "environment_above_ceiling"
    assert ask(world, "narrow", "DELETE", f"/{wide.id}").json()["code"] == "environment_above_ceiling"
    assert ask(world, "narrow", "DELETE", f"/{own.id}").status_code == 204


def test_losing_an_environment_ends_jwts_and_gaining_one_does_not(world):
    admin = world.office.people["admin"]
    for environments, raised in (
        ([world.staging.slug], 1),
        ([world.staging.slug, world.production.slug], 0),
        (None, 0),
    ):
        before = VendorMembership.objects.get(pk=admin.pk).generation
        answer = ask(world, "owner", "PATCH", f"/{admin.id}", {"environments": environments})
        assert (answer.status_code, answer.json()["environments"]) == (200, environments and sorted(environments))
        assert VendorMembership.objects.get(pk=admin.pk).generation == before + raised


def test_what_somebody_else_has_changed_since_is_not_overwritten(world):
    path = f"/{world.office.people['admin'].id}"
    seen = {"If-Match": ask(world, "owner", "GET", path).headers["ETag"]}
    assert ask(world, "owner", "PATCH", path, {"role": "auditor"}, **seen).status_code == 200
    answer = ask(world, "owner", "PATCH", path, {"role": "owner"}, **seen)
    assert (answer.status_code, answer.json()["code"]) == (412, "stale")


@pytest.mark.parametrize(("first", "act"), [("/suspend", "/suspend"), (None, "/reinstate")])
def test_what_is_so_already_is_said(world, first, act):
    path = f"/{world.office.people['admin'].id}"
    if first:
        assert ask(world, "owner", "POST", path + first).status_code == 200
    assert ask(world, "owner", "POST", path + act).json()["code"] == "already_so"


def test_the_suspended_open_no_console_until_they_are_reinstated(world):
    admin = world.office.people["admin"]
    assert ask(world, "owner", "POST", f"/{admin.id}/suspend").status_code == 200
    assert world.office.page("admin", world.production).status_code == 404
    assert ask(world, "owner", "POST", f"/{admin.id}/reinstate").status_code == 200
    assert world.office.page("admin", world.production).status_code == 200
    admin.refresh_from_db()
    assert admin.generation == 1


# The last owner.


@pytest.mark.parametrize("act", ["leave", "demote", "narrow", "suspend", "remove"])
@pytest.mark.parametrize("other", ["none", "of-some-environments", "of-all"])
def test_the_last_owner_of_the_vendor_has_to_stay(world, act, other):
    """Also the last one of all environments: nobody else could ever reach the rest."""
    olga = world.office.people["owner"]
    if other != "none":
        second = VendorMembershipFactory(vendor=world.vendor)
        if other == "of-some-environments":
            covers(second, world.production)
    by = principals.system(world.production)
    at = timezone.now()
    narrow = {"environments": [world.staging.slug]}
    acts = {
        "leave": lambda: ask(world, "owner", "DELETE", f"/{olga.id}").json()["code"],
        "demote": lambda: ask(world, "owner", "PATCH", f"/{olga.id}", {"role": "admin"}).json()["code"],
        "narrow": lambda: ask(world, "owner", "PATCH", f"/{olga.id}", narrow).json()["code"],
    }  # fmt: skip
    try:
        if act in acts:
            code = acts[act]() if other != "of-all" else _status(world, olga, act)
        else:
            code = getattr(vendor_members, act)(by=by, member=olga, at=at) and None
    except vendor_members.LastOwner as refusal:
        code = refusal.code
    assert code == (None if other == "of-all" else "last_owner")


def _status(world, olga, act):
    method, body, status = {"leave": ("DELETE", None, 204), "demote": ("PATCH", {"role": "admin"}, 200),
                            "narrow": ("PATCH", {"environments": [world.staging.slug]}, 200)}[act]  # fmt: skip
    assert ask(world, "owner", method, f"/{olga.id}", body).status_code == status


def test_anybody_but_the_last_owner_leaves(world):
    for who in ("auditor", "admin"):
        assert ask(world, who, "DELETE", f"/{world.office.people[who].id}").status_code == 204
    assert set(AuditEvent.objects.filter(verb="vendor_membership.left").values_list("actor_id", flat=True)) == {
        world.office.people[who].user_id for who in ("auditor", "admin")
    }


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_of_two_owners_of_the_vendor_who_leave_at_once_one_stays(world):
    world.office.people["second"] = VendorMembershipFactory(vendor=world.vendor)
    calls = []
    for who in ("owner", "second"):
        browser = world.office.browser(who)
        browser.get("/accounts/password/change/")
        browser.raise_request_exception = False
        path = f"/api/v1/vendor-members/{world.office.people[who].id}?environment={world.production.slug}"
        headers = {"X-CSRFToken": browser.cookies["csrftoken"].value}
        calls.append(lambda browser=browser, path=path, headers=headers: browser.delete(path, headers=headers))
    with held(world.vendor):
        leaving = [Call(call) for call in calls]
        wait_for_blocked(2)
    assert sorted(each.result().status_code for each in leaving) == [204, 409]


# Pages.


def test_on_the_pages_an_owner_invites_changes_suspends_reinstates_and_removes(world):
    office, production = world.office, world.production
    admin = office.people["admin"]
    page = post(world, "owner", "people/invite/", email=NEW, role="auditor", reach="all")
    assert re.search(r'data-field="link">http://localhost:8000/invitations/[\w-]{43}/<', page.content.decode())
    listed = office.page("owner", production, "people/").content.decode()
    assert NEW in listed
    revoke = re.search(rf"/console/{production.slug}/(people/invitations/[^\"]+/revoke/)", listed)[1]
    assert post(world, "owner", revoke).status_code == 302
    path = f"people/{admin.id}/"
    changed = post(
        world, "owner", path, role="auditor", reach="listed", environments=[world.staging.slug]
    )  # fmt: skip
    assert changed.status_code == 302
    admin.refresh_from_db()
    assert (admin.role, [listed.slug for listed in admin.environments.all()]) == ("auditor", [world.staging.slug])
    assert post(world, "owner", f"{path}suspend/").status_code == 302
    assert post(world, "owner", f"{path}reinstate/").status_code == 302
    assert office.page("owner", production, f"{path}remove/").status_code == 200
    assert post(world, "owner", f"{path}remove/").status_code == 302
    assert office.page("owner", production, path).status_code == 404


@pytest.mark.parametrize("who", ["admin", "auditor"])
def test_others_see_the_pages_and_no_button_and_are_refused(world, who):
    office, production = world.office, world.production
    path = f"people/{office.people['owner'].id}/"
    for seen in ("people/", "people/invitations/", path):
        page = office.page(who, production, seen)
        assert page.status_code == 200
        assert 'method="post"' not in page.content.decode().split("<main", 1)[1]
    assert office.page(who, production, "people/invite/").status_code == 403
    assert office.page(who, production, f"{path}remove/").status_code == 403
    before = everything_stored()["tenants_vendormembership"]
    sent = {"role": "auditor", "reach": "all", "version": "0" * 32, "email": NEW}
    for act in ("people/invite/", path, f"{path}suspend/", f"{path}reinstate/", f"{path}remove/"):
        assert post(world, who, act, **sent).status_code == 403, act
    assert everything_stored()["tenants_vendormembership"] == before


def test_the_last_owner_is_told_so_on_the_page(world):
    path = f"people/{world.office.people['owner'].id}/"
    answer = post(world, "owner", path, role="admin", reach="all")
    assert answer.status_code == 422
    assert "This is the last owner" in answer.content.decode()
    assert post(world, "owner", f"{path}remove/").status_code == 409


def test_the_last_owner_is_told_on_the_leave_page_and_sees_no_form(world):
    path = f"people/{world.office.people['owner'].id}/remove/"
    page = world.office.page("owner", world.production, path).content.decode()
    assert "You can&#x27;t leave yet" in page
    assert "No console opens for you any more" in page
    assert '<form method="post"' not in page.split("<main", 1)[1]
    VendorMembershipFactory(vendor=world.vendor, role="owner")
    page = world.office.page("owner", world.production, path).content.decode()
    assert "You can&#x27;t leave yet" not in page
    assert '<form method="post"' in page.split("<main", 1)[1]


def test_who_removes_somebody_sees_which_tokens_of_the_environments_they_made_or_know(world):
    admin = world.office.people["admin"]
    issued = [world.acme.issue_for_environment(name=name).token for name in ("Made", "Shown", "Neither")]
    ApiToken.objects.filter(pk=issued[0].pk).update(creator=admin.user)
    Secret.objects.filter(token=issued[1]).update(shown_to=admin.user)
    page = world.office.page("owner", world.production, f"people/{admin.id}/remove/").content.decode()
    named = [name for name in ("Made", "Shown", "Neither") if f">{name}</a>" in page]
    assert named == ["Made", "Shown"]


def test_a_page_of_many_people_takes_as_many_queries_as_one_of_few(world):
    browser, address = world.office.browser("owner"), f"/console/{world.production.slug}/people/"

    def queries():
        browser.get(address)
        with CaptureQueriesContext(connections["default"]) as captured:
            assert browser.get(address).status_code == 200
        return len(captured)

    covers(VendorMembershipFactory(vendor=world.vendor), world.staging)
    few = queries()
    for _ in range(20):
        covers(VendorMembershipFactory(vendor=world.vendor, role="auditor"), world.staging, world.production)
    assert queries() == few


def test_a_person_erased_or_switched_off_is_no_other_owner(world):
    second = VendorMembershipFactory(vendor=world.vendor, user=UserFactory(is_active=False))
    assert second.role == "owner"
    answer = ask(world, "owner", "DELETE", f"/{world.office.people['owner'].id}")
    assert (answer.status_code, answer.json()["code"]) == (409, "last_owner")
