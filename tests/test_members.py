"""Members of a tenant: who may give whom which roles, who may end what, and who has to stay (R3, R5, R10)."""

import re
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apitokens import principals
from apitokens.governance import members
from apitokens.models import ApiToken
from apitokens.setup import give_role, hold
from audit.models import AuditEvent
from tenants.models import Membership, Permission, Role, Tenant
from tests.cast import bearer, everything_stored, iso
from tests.factories import MembershipFactory
from tests.racing import Call, held, ready, wait_for_blocked


def named(house):
    return f"tenant={house.tenant.id}"


def ask(house, who, method, whom="", act="", body=None, query="", **headers):
    """A call about the member; `whom` is a role of the cast or a membership."""
    member = house.people[whom] if isinstance(whom, str) else whom
    path = f"members/{member.id}{act}?{named(house)}{query}"
    return house.api(who, method, path, body, **headers)


def roles_of(member):
    return sorted(member.roles.values_list("key", flat=True))


def another(house, *keys):
    """One more member with these roles."""
    member = MembershipFactory(tenant=house.tenant)
    for key in keys:
        give_role(member, house.role(key))
    return member


def events(verb, **sought):
    return list(AuditEvent.objects.filter(verb=verb, **sought).order_by("at"))


# Who may do what to whom: one table, success and refusal in the same set-up.

ACTS = {
    "demote": ("PATCH", "", {"roles": ["viewer"]}, 200),
    "suspend": ("POST", "/suspend", None, 200),
    "remove": ("DELETE", "", None, 204),
}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("target", ["viewer", "member", "admin", "owner"])
@pytest.mark.parametrize("own", ["viewer", "member", "admin", "owner"])
def test_whoever_may_manage_members_acts_on_those_up_to_their_own_level(acme, own, target, act):
    method, path, body, status = ACTS[act]
    whom = another(acme, target)
    before = members.snapshot(whom)
    answer = ask(acme, own, method, whom, path, body)
    levels = {"viewer": 10, "member": 20, "admin": 30, "owner": 40}
    if own in {"viewer", "member"}:
        assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope")
    elif levels[target] > levels[own]:
        assert (answer.status_code, answer.json()["code"], answer.json()["role"]) == (
            403, "role_above_ceiling", "owner",
        )  # fmt: skip
    else:
        assert answer.status_code == status, answer.content
    whom.refresh_from_db()
    assert (members.snapshot(whom) != before) == (answer.status_code < 300 and (act, target) != ("demote", "viewer"))


@pytest.mark.parametrize(
    ("method", "act", "body", "status"), [*ACTS.values(), pytest.param("POST", "/reinstate", None, 200, id="reinstate")]
)
def test_who_holds_what_their_manager_lacks_can_be_stopped_and_not_changed_by_them(acme, method, act, body, status):
    """The strict ceiling is about granting: a vendor who gives members more than owners keeps no owner from acting."""
    Permission.objects.create(environment=acme.environment, key="lab:enter")
    hold(acme.role("member"), ["lab:enter"])
    whom = another(acme, "member")
    if act == "/reinstate":
        assert ask(acme, "owner", "POST", whom, "/suspend").status_code == 200
    answer = ask(acme, "owner", method, whom, act, body)
    if act == "/suspend" or method == "DELETE":
        assert answer.status_code == status, answer.content
    else:
        assert (answer.status_code, answer.json()["detail"]) == (
            403,
            "You can't decide about this person's roles. They have the role Member: "
            "it holds permissions that you lack: lab:enter.",
        )


def test_the_page_of_who_holds_more_offers_to_stop_them_and_says_why_no_more(acme):
    Permission.objects.create(environment=acme.environment, key="lab:enter")
    hold(acme.role("member"), ["lab:enter"])
    page = Desk(acme, "owner").open("member").content.decode()
    assert "it holds permissions that you lack: lab:enter." in page
    assert "/suspend/" in page
    assert "/remove/" in page


@pytest.mark.parametrize(
    ("own", "asked", "code"),
    [
        pytest.param("admin", ["viewer"], None, id="below"),
        pytest.param("admin", ["admin"], None, id="equal"),
        pytest.param("admin", ["owner"], "role_above_ceiling", id="above"),
        pytest.param("admin", ["viewer", "owner"], "role_above_ceiling", id="one-of-two-above"),
        pytest.param("admin", ["own:robots"], None, id="the-tenants-own"),
        pytest.param("admin", ["own:finance"], "role_above_ceiling", id="low-but-holding-more"),
        pytest.param("owner", ["own:finance"], None, id="holding-what-the-grantor-holds"),
        pytest.param("admin", ["nonesuch"], "invalid", id="unknown"),
        pytest.param("admin", [], None, id="none-at-all"),
        pytest.param("member", ["viewer"], "insufficient_scope", id="without-the-permission"),
    ],
)
def test_a_member_gives_roles_up_to_their_own(acme, own, asked, code):
    robots = Role.objects.create(
        environment=acme.environment, tenant=acme.tenant, key="own:robots", name="Robots", level=5
    )
    finance = Role.objects.create(
        environment=acme.environment, tenant=acme.tenant, key="own:finance", name="Finance", level=5
    )
    hold(robots, ["reports:read"])
    hold(finance, ["billing:manage"])
    answer = ask(acme, own, "PATCH", "viewer", body={"roles": asked})
    if code is None:
        assert answer.status_code == 200, answer.content
        assert roles_of(acme.people["viewer"]) == sorted(asked)
        [event] = events("membership.roles_changed", outcome="done") or [None]
        assert (event.before["roles"], event.after["roles"]) == (["viewer"], sorted(asked)) if event else asked
    else:
        assert answer.json()["code"] == code
        assert roles_of(acme.people["viewer"]) == ["viewer"]
        refused = AuditEvent.objects.filter(outcome="refused").values_list("reason", flat=True)
        assert list(refused) == ([] if code == "invalid" else [code])


def test_roles_of_another_tenant_and_of_another_environment_are_unknown(world, acme):
    foreign = Role.objects.create(
        environment=world.production, tenant=world.globex.tenant, key="own:robots", name="Robots", level=1
    )
    for name in ("own:robots", str(foreign.id), str(world.acme_staging.role("viewer").id)):
        answer = ask(acme, "owner", "PATCH", "viewer", body={"roles": [name]})
        assert (answer.status_code, list(answer.json()["errors"])) == (400, ["roles"])


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        pytest.param(["admin", "viewer"], None, id="the-same"),
        pytest.param(["viewer"], None, id="less"),
        pytest.param(["admin", "viewer", "member"], "own_roles", id="one-more-within-the-ceiling"),
        pytest.param(["owner"], "role_above_ceiling", id="above-the-ceiling"),
    ],
)
def test_nobody_gives_themselves_a_role(acme, asked, code):
    give_role(acme.people["admin"], acme.role("viewer"))
    answer = ask(acme, "admin", "PATCH", "admin", body={"roles": asked})
    assert answer.json().get("code") == code
    assert roles_of(acme.people["admin"]) == (["admin", "viewer"] if code else sorted(asked))


def test_nobody_gives_themselves_a_role_by_their_own_personal_token(acme):
    token = acme.issue("admin", owner="user").plaintext
    answer = Client().patch(
        f"/api/v1/members/{acme.people['admin'].id}", {"roles": ["admin", "viewer"]},
        content_type="application/json", headers=bearer(token),
    )  # fmt: skip
    assert (answer.status_code, answer.json()["code"]) == (403, "own_roles")


def test_the_whole_of_a_member_is_in_the_answer(acme):
    vera = acme.people["viewer"]
    answer = ask(acme, "admin", "GET", "viewer")
    assert answer.json() == {
        "id": str(vera.id),
        "user": str(vera.user_id),
        "name": vera.user.name,
        "email": vera.user.email,
        "tenant": str(acme.tenant.id),
        "roles": ["viewer"],
        "level": 10,
        "suspended_at": None,
        "created_at": iso(vera.created_at),
    }


def test_what_somebody_else_has_changed_since_is_not_overwritten(acme):
    seen = ask(acme, "admin", "GET", "viewer").headers["ETag"]
    first = ask(acme, "owner", "PATCH", "viewer", body={"roles": ["member"]}, **{"If-Match": seen})
    second = ask(acme, "admin", "PATCH", "viewer", body={"roles": ["admin"]}, **{"If-Match": seen})
    assert (first.status_code, second.status_code, second.json()["code"]) == (200, 412, "stale")
    again = ask(acme, "admin", "PATCH", "viewer", body={"roles": ["admin"]}, **{"If-Match": first.headers["ETag"]})
    assert (again.status_code, roles_of(acme.people["viewer"])) == (200, ["admin"])


# Suspending, reinstating, ending.


def test_a_suspended_member_and_their_personal_token_stop_and_resume_but_jwts_from_before_stay_dead(acme):
    token = acme.issue("member", owner="user").plaintext
    generation = acme.people["member"].generation

    def works():
        return Client().get("/api/v1/token/self", headers=bearer(token)).status_code == 200

    page = acme.browser("member")
    assert works()
    assert page.get(acme.url()).status_code == 200
    assert ask(acme, "admin", "POST", "member", "/suspend").status_code == 200
    assert not works()
    assert page.get(acme.url()).status_code == 404
    assert ask(acme, "admin", "POST", "member", "/reinstate").status_code == 200
    assert works()
    acme.people["member"].refresh_from_db()
    assert acme.people["member"].generation == generation + 1
    verbs = [event.verb for event in AuditEvent.objects.filter(target_id=acme.people["member"].id).order_by("at")]
    assert verbs == ["membership.suspended", "membership.reinstated"]


@pytest.mark.parametrize(("first", "act"), [("/suspend", "/suspend"), (None, "/reinstate")])
def test_what_is_so_already_is_said(acme, first, act):
    if first:
        ask(acme, "admin", "POST", "member", first)
    untouched = ("django_session", "accounts_user")  # signing in
    before = everything_stored(but=untouched)
    answer = ask(acme, "admin", "POST", "member", act)
    assert (answer.status_code, answer.json()["code"]) == (409, "already_so")
    assert everything_stored(but=untouched) == before


def test_reinstating_is_granting(acme):
    """The suspended have since been given, by the owner, a role above the admin's."""
    mo = acme.people["member"]
    ask(acme, "admin", "POST", "member", "/suspend")
    give_role(mo, acme.role("owner"))
    assert ask(acme, "admin", "POST", "member", "/reinstate").json()["code"] == "role_above_ceiling"
    assert ask(acme, "owner", "POST", "member", "/reinstate").status_code == 200


def test_a_removed_member_is_gone_from_every_door_and_their_personal_tokens_stop(acme):
    token = acme.issue("member", owner="user").plaintext
    assert ask(acme, "admin", "DELETE", "member").status_code == 204
    assert Client().get("/api/v1/token/self", headers=bearer(token)).status_code == 401
    assert ask(acme, "admin", "GET", "member").status_code == 404
    assert acme.browser("member").get(acme.url()).status_code == 404
    listed = acme.api("admin", "GET", f"members?{named(acme)}").json()["results"]
    assert str(acme.people["member"].id) not in [row["id"] for row in listed]
    assert ApiToken.objects.filter(membership=acme.people["member"]).count() == 1


def test_with_a_member_those_of_the_tenants_tokens_go_that_are_named(acme):
    made = acme.issue("member", name="Made").token
    shown = acme.issue("admin", name="Shown").token
    shown.secrets.update(shown_to=acme.people["member"].user)
    once_shown = acme.issue("admin", name="Renewed since").token
    once_shown.secrets.update(shown_to=acme.people["member"].user, slot=None, retired_at=timezone.now())
    others = acme.issue("admin", name="Not theirs").token
    inventory = ask(acme, "admin", "GET", "member", "/inventory").json()
    assert {name: [row["name"] for row in inventory[name]] for name in ("personal", "made", "shown")} == {
        "personal": [], "made": ["Made"], "shown": ["Shown", "Made"],
    }  # fmt: skip
    assert [inventory[f"{name}_count"] for name in ("personal", "made", "shown")] == [0, 1, 2]
    for foreign in (others, once_shown):
        answer = ask(acme, "admin", "DELETE", "member", query=f"&delete_tokens={foreign.token_id}")
        assert (answer.status_code, list(answer.json()["errors"])) == (400, ["delete_tokens"])
    answer = ask(acme, "admin", "DELETE", "member", body={"delete_tokens": [made.token_id, shown.token_id]})
    assert answer.status_code == 204
    assert set(ApiToken.objects.all()) == {others, once_shown}
    assert {event.before["name"] for event in events("apitoken.deleted")} == {"Made", "Shown"}


def test_tokens_go_with_a_member_only_where_the_remover_may_delete_tokens(acme):
    made = acme.issue("member").token
    steward = Role.objects.create(
        environment=acme.environment, tenant=acme.tenant, key="own:steward", name="Steward", level=30
    )
    hold(steward, [*acme.role("member").permissions.values_list("key", flat=True), "members:read", "members:delete"])
    steward.role_permissions.filter(permission__key="apitokens:delete").delete()
    Role.objects.filter(environment=acme.environment).update(level=20)
    type(acme.environment).objects.update(strict_ceiling=False)
    acme.people["viewer"].membership_roles.all().delete()
    give_role(acme.people["viewer"], steward)
    answer = ask(acme, "viewer", "DELETE", "member", query=f"&delete_tokens={made.token_id}")
    assert (answer.status_code, answer.json()["permission"]) == (403, "apitokens:delete")
    assert Membership.objects.get(pk=acme.people["member"].pk).ended_at is None
    assert ask(acme, "viewer", "DELETE", "member").status_code == 204
    assert ApiToken.objects.filter(pk=made.pk).exists()


# The last owner.


@pytest.mark.parametrize(
    ("act", "body", "status"),
    [("leave", None, 204), ("demote", {"roles": ["admin"]}, 200), ("suspend", None, 200), ("remove", None, 204)],
)
@pytest.mark.parametrize("owners", [1, 2])
def test_the_last_owner_has_to_stay(acme, act, body, status, owners):
    olga = acme.people["owner"]
    give_role(olga, acme.role("admin"))
    if owners == 2:
        another(acme, "owner")
    before = members.snapshot(olga)
    method, path = {"leave": ("DELETE", ""), "demote": ("PATCH", ""), "suspend": ("POST", "/suspend")}.get(
        act, ("DELETE", "")
    )
    answer = ask(acme, "owner", method, "owner", path, body)
    olga.refresh_from_db()
    if owners == 1:
        assert (answer.status_code, answer.json()["code"]) == (409, "last_owner")
        assert members.snapshot(olga) == before
    else:
        assert answer.status_code == status
        assert members.snapshot(olga) != before


def test_a_suspended_owner_is_no_other_owner(acme):
    another_owner = another(acme, "owner")
    assert ask(acme, "owner", "POST", another_owner, "/suspend").status_code == 200
    assert ask(acme, "owner", "DELETE", "owner").json()["code"] == "last_owner"


def test_the_vendor_may_remove_the_last_owner(world, acme):
    path = f"members/{acme.people['owner'].id}?{named(acme)}"
    assert world.office.api("auditor", "DELETE", path, environment=world.production).status_code == 403
    assert world.office.api("admin", "DELETE", path, environment=world.production).status_code == 204


def test_an_environments_token_may_not_remove_the_last_owner_but_others(acme):
    token = acme.issue_for_environment(kind="access_token").plaintext

    def remove(whom):
        path = f"/api/v1/members/{acme.people[whom].id}?{named(acme)}"
        return Client().delete(path, headers=bearer(token))

    assert remove("owner").json()["code"] == "last_owner"
    assert remove("admin").status_code == 204


def test_anybody_but_the_last_owner_leaves_without_a_permission(acme):
    for who in ("viewer", "member", "admin"):
        assert ask(acme, who, "DELETE", who).status_code == 204
    assert [event.actor_id for event in events("membership.left")] == [
        acme.people[who].user_id for who in ("viewer", "member", "admin")
    ]


# Coming back.


@pytest.mark.parametrize(
    ("days", "resumes"), [(0, True), (6.99, True), (7, False), (30, False)], ids=lambda value: str(value)
)
def test_who_comes_back_within_seven_days_finds_their_personal_tokens_within_their_new_role(acme, days, resumes):
    token = acme.issue("member", owner="user", roles=["member"]).plaintext
    mo = acme.people["member"]
    ask(acme, "admin", "DELETE", "member")
    at = timezone.now() + timedelta(days=days)
    Membership.objects.filter(pk=mo.pk).update(ended_at=at - timedelta(days=days))
    by = principals.system(acme.environment)
    back = members.admit(by=by, tenant=acme.tenant, user=mo.user, roles=[acme.role("viewer")], at=at)
    assert (back.pk, back.ended_at, roles_of(back)) == (mo.pk, None, ["viewer"])
    answer = Client().get("/api/v1/token/self", headers=bearer(token))
    assert answer.status_code == (200 if resumes else 401)
    if resumes:
        assert "reports:write" not in answer.json()["scope"].split()
        assert "reports:read" in answer.json()["scope"].split()
    assert len(events("apitoken.deleted")) == (0 if resumes else 1)
    assert [event.verb for event in AuditEvent.objects.filter(target_id=mo.id).order_by("at")][-1] == (
        "membership.resumed"
    )


# Lists.


def test_the_list_is_searched_by_name_and_e_mail_and_comes_in_pages(acme):
    zoe = another(acme, "viewer")
    type(zoe.user).objects.filter(pk=zoe.user_id).update(name="Zoë Zander", email="zz@example.com")

    def found(query):
        answer = acme.api("admin", "GET", f"members?{named(acme)}{query}")
        return [row["name"] for row in answer.json()["results"]]

    assert found("&q=zander") == found("&q=zz@") == ["Zoë Zander"]
    assert found("&q=%00") == found("&q=nobody") == []
    assert len(found("")) == 5
    assert len(found("&page_size=2")) == 2


@pytest.mark.parametrize("path", ["members", "invitations"])
def test_without_the_permission_the_lists_are_refused(acme, path):
    answer = acme.api("member", "GET", f"{path}?{named(acme)}")
    assert (answer.status_code, answer.json()["permission"]) == (403, "members:read")


def queries(browser, address):
    browser.get(address)
    with CaptureQueriesContext(connections["default"]) as captured:
        assert browser.get(address).status_code == 200
    return len(captured)


@pytest.mark.parametrize("address", ["/api/v1/members?tenant={tenant}", "/t/{slug}/members/"])
def test_a_page_of_fifty_takes_as_many_queries_as_one_of_five(acme, address):
    address = address.format(tenant=acme.tenant.id, slug=acme.tenant.slug)
    browser = acme.browser("admin")
    few = queries(browser, address)
    for _ in range(46):
        another(acme, "viewer", "member")
    assert queries(browser, address) == few


def test_the_inventory_takes_as_many_queries_for_many_tokens(acme):
    address = f"/t/{acme.tenant.slug}/members/{acme.people['member'].id}/"
    acme.issue("member", name="First")
    acme.issue("member", name="Mine", owner="user")
    browser = acme.browser("admin")
    few = queries(browser, address)
    for number in range(10):
        acme.issue("member", name=f"More {number}")
        acme.issue("member", name=f"Mine {number}", owner="user")
    assert queries(browser, address) == few


def test_an_inventory_names_two_hundred_and_counts_all(acme, monkeypatch):
    monkeypatch.setattr(members, "SHOWN", 2)
    for number in range(3):
        acme.issue("member", name=f"Made {number}")
    found = members.inventory(acme.people["member"])
    assert ([token.name for token in found.made], found.made_count, found.is_cut) == (["Made 2", "Made 1"], 3, True)


def test_a_member_of_another_tenant_is_like_one_that_never_was(world, acme):
    for method, act, body in (
        ("GET", "", None), ("PATCH", "", {"roles": ["viewer"]}), ("DELETE", "", None), ("POST", "/suspend", None),
        ("POST", "/reinstate", None), ("GET", "/inventory", None),
    ):  # fmt: skip
        answers = [
            acme.api("owner", method, f"members/{member}{act}?{named(acme)}", body)
            for member in (world.globex.people["viewer"].id, uuid4())
        ]
        assert [answer.status_code for answer in answers] == [404, 404]
        assert answers[0].content == answers[1].content


def test_no_name_and_no_e_mail_is_in_the_record(acme):
    ask(acme, "admin", "PATCH", "viewer", body={"roles": ["member"]})
    ask(acme, "admin", "POST", "viewer", "/suspend")
    ask(acme, "admin", "DELETE", "viewer")
    vera = acme.people["viewer"].user
    recorded = " ".join(everything_stored()["audit_auditevent"])
    assert str(vera.id) in recorded or vera.id.hex in recorded
    assert vera.email not in recorded
    assert vera.name not in recorded


# Races: on PostgreSQL, where transactions really run beside each other.


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_of_two_owners_who_leave_at_once_one_stays(world, acme):
    second = another(acme, "owner")
    acme.people["second"] = second
    calls = [ready(acme, who, "delete", f"members/{acme.people[who].id}?{named(acme)}") for who in ("owner", "second")]
    with held(acme.tenant):
        leaving = [Call(call) for call in calls]
        wait_for_blocked(2)
    answers = [each.result() for each in leaving]
    assert sorted(answer.status_code for answer in answers) == [204, 409]
    assert Membership.objects.filter(roles__key="owner", tenant=acme.tenant, ended_at__isnull=True).count() == 1


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_of_two_owners_who_remove_each_other_at_once_one_stays(world, acme):
    acme.people["second"] = another(acme, "owner")
    calls = [
        ready(acme, who, "delete", f"members/{acme.people[whom].id}?{named(acme)}")
        for who, whom in (("owner", "second"), ("second", "owner"))
    ]
    with held(acme.tenant):
        removing = [Call(call) for call in calls]
        wait_for_blocked(2)
    answers = [each.result() for each in removing]
    assert sorted(answer.status_code for answer in answers) == [204, 403]
    assert Membership.objects.filter(roles__key="owner", tenant=acme.tenant, ended_at__isnull=True).count() == 1


# Pages.


class Desk:
    """One person's browser on the pages of a tenant's members."""

    def __init__(self, house, who):
        self.house, self.browser = house, house.browser(who)

    def url(self, whom="", act=""):
        member = f"{self.house.people[whom].id}/" if whom else ""
        return f"/t/{self.house.tenant.slug}/members/{member}{act}"

    def open(self, *where):
        return self.browser.get(self.url(*where))

    def send(self, *where, of=None, **fields):
        """What the page's form sends, with these fields filled in."""
        page = self.browser.get(of or self.url(*where))
        if page.status_code == 405:
            page = self.open(where[0])
        found = dict(re.findall(r'name="(csrfmiddlewaretoken|version)" value="([^"]+)"', page.content.decode()))
        return self.browser.post(self.url(*where), {**found, **fields})


def test_on_the_pages_a_member_is_changed_suspended_reinstated_and_removed(acme):
    desk = Desk(acme, "admin")
    made = acme.issue("member", name="Nightly export").token
    kept = acme.issue("member", name="Weekly export").token
    acme.issue("member", name="Laptop", owner="user")
    assert desk.send("member", roles=["viewer", "member"]).status_code == 302
    assert roles_of(acme.people["member"]) == ["member", "viewer"]
    assert desk.send("member", "suspend/").status_code == 302
    assert "Suspended" in desk.open("member").content.decode()
    assert desk.send("member", "reinstate/").status_code == 302
    page = desk.open("member", "remove/").content.decode()
    assert "Laptop" in page
    assert "Nightly export" in page
    assert desk.send("member", "remove/", delete_tokens=[made.token_id]).status_code == 302
    assert desk.open("member").status_code == 404
    assert [token.name for token in ApiToken.objects.filter(owner="tenant")] == [kept.name]


def test_the_form_shows_roles_above_the_ceiling_with_the_reason_and_keeps_what_was_chosen(acme):
    desk = Desk(acme, "admin")
    assert "Its level 40 is above your own, 30." in desk.open("viewer").content.decode()
    answer = desk.send("viewer", roles=["member", "owner"])
    page = answer.content.decode()
    assert answer.status_code == 422
    assert "You can&#x27;t grant the role Owner" in page
    assert re.search(r'value="member"[^>]*checked', page)
    assert roles_of(acme.people["viewer"]) == ["viewer"]


def test_of_somebody_above_the_page_offers_nothing_and_says_why(acme):
    page = Desk(acme, "admin").open("owner").content.decode()
    assert "You can't change this person: its level 40 is above your own, 30." in page
    assert "/suspend/" not in page
    assert "/remove/" not in page


def test_what_changed_since_the_page_was_opened_is_not_overwritten(acme):
    first, second = Desk(acme, "admin"), Desk(acme, "owner")
    page = dict(
        re.findall(r'name="(csrfmiddlewaretoken|version)" value="([^"]+)"', first.open("viewer").content.decode())
    )
    assert second.send("viewer", roles=["member"]).status_code == 302
    answer = first.browser.post(first.url("viewer"), {**page, "roles": ["admin"]})
    assert answer.status_code == 422
    assert "Somebody has changed this since you opened it" in answer.content.decode()
    assert roles_of(acme.people["viewer"]) == ["member"]


def test_a_page_without_the_permission_names_it_and_the_tab_is_absent(acme):
    desk = Desk(acme, "member")
    answer = desk.open()
    assert answer.status_code == 403
    assert "members:read" in answer.content.decode()
    assert "/members/" not in desk.browser.get(acme.url()).content.decode()


def test_whoever_may_only_look_sees_no_buttons_and_is_refused(acme):
    """A role of the vendor's that holds `members:read` alone."""
    hold(acme.role("member"), ["members:read"])
    desk = Desk(acme, "member")
    page = desk.open("viewer").content.decode()
    assert '<form method="post"' not in page.split("<main", 1)[1]
    assert "/members/invite/" not in desk.open().content.decode()
    assert desk.open("viewer", "remove/").status_code == 403
    for act, fields in (("", {"roles": ["member"]}), ("suspend/", {}), ("reinstate/", {}), ("remove/", {})):
        answer = desk.send("viewer", act, of=acme.url("new/"), version="0" * 32, **fields)
        assert answer.status_code == 403, act
    assert roles_of(acme.people["viewer"]) == ["viewer"]


def test_a_member_leaves_on_a_page_that_says_what_stops(acme):
    acme.issue("viewer", name="Laptop", owner="user")
    browser = acme.browser("viewer")
    page = browser.get(f"/t/{acme.tenant.slug}/leave/").content.decode()
    assert "Laptop" in page
    csrf = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)[1]
    assert browser.post(f"/t/{acme.tenant.slug}/leave/", {"csrfmiddlewaretoken": csrf}).status_code == 302
    assert browser.get(acme.url()).status_code == 404


def test_the_last_owner_is_told_on_the_page_why_they_have_to_stay(acme):
    browser = acme.browser("owner")
    page = browser.get(f"/t/{acme.tenant.slug}/leave/").content.decode()
    assert "You can't leave yet" in page
    assert '<form method="post"' not in page.split("<main", 1)[1]
    csrf = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)[1]
    answer = browser.post(f"/t/{acme.tenant.slug}/leave/", {"csrfmiddlewaretoken": csrf})
    assert answer.status_code == 422
    assert "Give somebody else as high a role first." in answer.content.decode()


def test_the_last_keeper_is_not_offered_to_be_removed(acme):
    desk = Desk(acme, "admin")
    page = desk.open("owner", "remove/").content.decode()
    assert "They can't be removed yet" in page
    assert '<form method="post"' not in page.split("<main", 1)[1]
    give_role(acme.people["admin"], acme.role("owner"))
    assert '<form method="post"' in desk.open("owner", "remove/").content.decode().split("<main", 1)[1]


def test_the_start_page_names_what_somebody_is_suspended_in(acme, globex):
    Membership.objects.filter(pk=acme.people["viewer"].pk).update(suspended_at=timezone.now())
    page = acme.browser("viewer").get("/").content.decode()
    assert "You are suspended there. Ask an administrator of Acme." in page
    assert "You belong to no tenant yet" not in page
    Tenant.objects.filter(pk=globex.tenant.pk).update(suspended_at=timezone.now())
    page = globex.browser("viewer").get("/").content.decode()
    assert "It is suspended as a whole. Ask an administrator of Globex." in page


def test_a_tenants_bare_address_leads_to_its_tokens(acme):
    assert acme.browser("viewer").get(f"/t/{acme.tenant.slug}/").headers["Location"] == acme.url()
    assert acme.browser("viewer").get("/console/").headers["Location"] == "/"


def test_what_was_refused_has_a_way_back(acme):
    """To where one came from, if that is a page of ours, and else to the nearest one above."""
    browser, host = acme.browser("viewer"), "http://testserver"
    members_url = f"/t/{acme.tenant.slug}/members/"
    for came, back in (
        (f"{host}{acme.url()}?owner=user", f"{acme.url()}?owner=user"),
        ("http://elsewhere.example/x/", f"/t/{acme.tenant.slug}/"),
        (f"{host}//evil.example/", f"/t/{acme.tenant.slug}/"),
        (f"{host}{members_url}", f"/t/{acme.tenant.slug}/"),
    ):
        answer = browser.get(members_url, headers={"Referer": came})
        assert answer.status_code == 403
        assert f'class="button button-primary" href="{back}"' in answer.content.decode(), came
