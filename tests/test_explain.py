"""Why a token may do something or not: the layer that decides, never another answer than the one that is enforced."""

from datetime import timedelta

import pytest
from django.utils import timezone

from apitokens import explaining, policy
from apitokens.governance import roles as role_services
from apitokens.governance.roles import RoleChange
from apitokens.models import ApiToken, TokenType
from apitokens.policy import Layer
from apitokens.principals import system
from apitokens.setup import give_role
from tenants.models import MembershipRole, Permission, Role
from tests.cast import bearer, iso
from tests.factories import RoleFactory
from tests.test_queryset_agrees import WORLDS, tokens

__all__ = ["tokens"]  # a fixture
SELF = "/api/v1/token/self"


def edit(environment, key, **change):
    role = Role.objects.get(environment=environment, key=key)
    role_services.edit(by=system(environment), role=role, change=RoleChange(**change), at=timezone.now())


def without(environment, key, *permissions):
    role = Role.objects.get(environment=environment, key=key)
    held = set(role.permissions.values_list("key", flat=True))
    edit(environment, key, permissions=held - set(permissions))


def with_more(environment, key, *permissions):
    role = Role.objects.get(environment=environment, key=key)
    held = set(role.permissions.values_list("key", flat=True))
    edit(environment, key, permissions=held | set(permissions))


def asked(token, permission, at=None):
    row = ApiToken.objects.with_standing().get(pk=token.pk)
    (found,) = explaining.explain(row, at=at or timezone.now(), permission=permission).permissions
    return found


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("hours", [0, 2])
def test_the_explanation_agrees_with_what_is_enforced(world, tokens, name, hours):
    WORLDS[name](world)
    at = timezone.now() + timedelta(hours=hours)
    every = list(Permission.objects.values_list("key", flat=True).distinct())
    for row in ApiToken.objects.with_standing():
        standing = policy.Standing.of(row)
        now = policy.effective_permissions(standing)
        for key in every:
            assert (policy.explain(standing, key) == Layer.GRANTED) == (key in now.permissions), (row.name, key)
        usable = policy.state(row, now, at=at) == policy.State.USABLE
        answer = explaining.explain(row, at=at)
        assert answer.state == policy.state(row, now, at=at)
        allowed = {each.permission for each in answer.permissions if each.allowed}
        assert allowed == (now.permissions if usable else set()), (row.name, name)
        assert all(each.because for each in answer.permissions)


LAYERS = [
    pytest.param({"roles": ["viewer"]}, None, "reports:read", "granted", id="granted"),
    pytest.param({"roles": ["viewer"]}, None, "no:such", "unknown_permission", id="unknown"),
    pytest.param({"roles": ["viewer"]}, None, "tenants:read", "not_for_this_owner", id="not-for-this-owner"),
    pytest.param({"roles": ["viewer"]}, None, "reports:write", "never_granted", id="never-granted"),
    pytest.param({"roles": ["member"], "without": ["reports:read"]}, None, "reports:read", "left_out", id="left-out"),
    pytest.param(
        {"roles": ["viewer"]}, lambda env: with_more(env, "viewer", "reports:write"), "reports:write",
        "not_taken_over", id="not-taken-over",
    ),
    pytest.param(
        {"roles": ["member"]}, lambda env: without(env, "member", "reports:read"), "reports:read", "role_lost_it",
        id="role-lost-it",
    ),
    pytest.param(
        {"roles": ["member"]}, lambda env: edit(env, "member", level=31), "reports:read", "role_above_grantor",
        id="role-above-grantor",
    ),
    pytest.param(
        {"owner": "user", "permissions": ["reports:read"]}, lambda env: without(env, "admin", "reports:read"),
        "reports:read", "owner_lacks_it", id="owner-lacks-it",
    ),
    pytest.param({"owner": "user"}, None, "billing:manage", "owner_lacks_it", id="owner-never-had-it"),
    pytest.param(
        {"roles": ["viewer"]}, lambda env: ApiToken.objects.update(disabled_at=timezone.now()), "reports:read",
        "token_not_usable", id="disabled",
    ),
    pytest.param(
        {"roles": ["viewer"]}, lambda env: TokenType.objects.update(is_enabled=False), "reports:read",
        "token_not_usable", id="type-off",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("grant", "happens", "permission", "layer"), LAYERS)
def test_each_layer_is_named(acme, grant, happens, permission, layer):
    token = acme.issue("admin", **grant).token
    if happens:
        happens(acme.environment)
    found = asked(token, permission)
    assert (found.layer, found.allowed) == (layer, layer == "granted")
    answer = acme.api("admin", "GET", f"tokens/{token.token_id}/explain?permission={permission}")
    assert answer.json()["permissions"] == [
        {
            "permission": permission,
            "allowed": layer == "granted",
            "layer": layer,
            "because": found.because,
            "since": iso(found.since),
        }
    ]


def test_the_record_says_when_a_role_lost_it_and_the_words_name_both(acme):
    token = acme.issue("admin", roles=["member"]).token
    without(acme.environment, "member", "reports:read")
    found = asked(token, "reports:read")
    assert found.since is not None
    day = timezone.now().strftime("%-d %b %Y")
    assert found.because == f"Its role Member lost it on {day}."
    with_more(acme.environment, "viewer", "reports:write")  # another role's business
    assert asked(token, "reports:read").since == found.since


def test_the_words_say_when_its_role_got_more_and_when_it_was_deleted(acme):
    day = timezone.now().strftime("%-d %b %Y")
    clerk = RoleFactory(environment=acme.environment, tenant=acme.tenant, key="own:clerk", name="Clerk", level=5)
    edit(acme.environment, "own:clerk", permissions=["reports:read"])
    token = acme.issue("admin", roles=["own:clerk"]).token
    edit(acme.environment, "own:clerk", permissions=["reports:read", "reports:write"])
    assert asked(token, "reports:write").because == f"Its role Clerk got it on {day}, after the token was granted."
    role_services.delete(by=system(acme.environment), role=clerk, at=timezone.now(), force=True)
    assert asked(token, "reports:read").because == f"The role that it had it from was deleted on {day}."


def test_what_a_replacement_holds_is_not_taken_over(acme):
    clerk = RoleFactory(environment=acme.environment, tenant=acme.tenant, key="own:clerk", name="Clerk", level=5)
    edit(acme.environment, "own:clerk", permissions=["reports:read"])
    token = acme.issue("admin", roles=["own:clerk"]).token
    member = acme.role("member")
    role_services.delete(by=system(acme.environment), role=clerk, at=timezone.now(), replacement=member)
    found = asked(token, "reports:write")
    assert (found.layer, found.since is not None) == ("not_taken_over", True)
    assert asked(token, "reports:read").allowed


def test_a_deleted_permission_is_explained_by_the_tokens_own_trail(acme, office):
    token = acme.issue("admin", roles=["viewer"]).token
    reports = Permission.objects.get(environment=acme.environment, key="reports:read")
    office.api("admin", "DELETE", f"permissions/{reports.id}?force=true", environment=acme.environment)
    found = asked(token, "reports:read")
    assert (found.layer, found.because.split(" on ")[0]) == ("unknown_permission", "The permission was deleted")


def test_an_owner_who_was_given_other_roles_is_the_reason(acme):
    token = acme.issue("member", owner="user", permissions=["reports:write"]).token
    mo = acme.people["member"]
    body = {"roles": ["viewer"]}
    assert acme.api("admin", "PATCH", f"members/{mo.id}?tenant={acme.tenant.id}", body).status_code == 200
    found = asked(token, "reports:write")
    assert (found.layer, found.since is not None) == ("owner_lacks_it", True)


def test_the_whole_answer_has_the_vendors_own_first(acme):
    token = acme.issue("admin", roles=["viewer"]).token
    body = acme.api("admin", "GET", f"tokens/{token.token_id}/explain").json()
    assert (body["id"], body["state"]) == (token.token_id, "usable")
    assert [row["permission"] for row in body["permissions"]] == [
        "reports:read",
        "apitokens:read",
        "personal-apitokens:create",
        "personal-apitokens:delete",
        "personal-apitokens:read",
    ]


@pytest.mark.parametrize("permission", ["", "a" * 129, "%00"])
def test_what_is_no_key_is_said_so(acme, permission):
    token = acme.issue("admin").token
    answer = acme.api("admin", "GET", f"tokens/{token.token_id}/explain?permission={permission}")
    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["permission"])


def test_who_may_not_see_a_token_is_told_nothing_of_it(acme, globex):
    token = acme.issue("admin").token
    stranger = globex.api("admin", "GET", f"tokens/{token.token_id}/explain?tenant={globex.tenant.id}")
    assert stranger.status_code == 404


# --- on the token's page ---


def test_the_page_says_what_does_not_work_and_why_and_answers_a_question(acme):
    token = acme.issue("admin", roles=["member"]).token
    without(acme.environment, "member", "reports:read")
    page = acme.browser("admin").get(acme.url(f"{token.token_id}/?permission=reports:read")).content.decode()
    assert "Granted, but not effective" in page
    assert page.count("Its role Member lost it on") == 2
    assert "No, it may not" in page
    yes = acme.browser("admin").get(acme.url(f"{token.token_id}/?permission=reports:write")).content.decode()
    assert "Yes, it may" in yes
    for odd in ("%00", "a" * 200, "<script>"):
        answer = acme.browser("admin").get(acme.url(f"{token.token_id}/?permission={odd}"))
        assert answer.status_code == 200
        assert "<script>" not in answer.content.decode()


def take_over(house, person, token, **fields):
    browser = house.browser(person)
    url = house.url(f"{token.token_id}/take-over/")
    browser.get(house.url("new/"))
    browser.get("/accounts/password/change/")
    return browser.post(url, {"csrfmiddlewaretoken": browser.cookies["csrftoken"].value, **fields})


def test_what_roles_have_got_is_offered_and_taken_over_and_what_was_left_out_stays_out(acme, machine):
    issued = acme.issue("admin", roles=["viewer"], without=["apitokens:read"])
    with_more(acme.environment, "viewer", "reports:write", "settings:manage")
    # The admin holds settings:manage and reports:write, so may give both.
    page = acme.browser("admin").get(acme.url(f"{issued.token.token_id}/")).content.decode()
    assert "Its roles can do more since" in page
    answer = take_over(acme, "admin", issued.token, permissions=["reports:write"])
    assert answer.status_code == 302, answer.content
    scope = set(machine.get(SELF, headers=bearer(issued.plaintext)).json()["scope"].split())
    assert {"reports:read", "reports:write"} <= scope
    assert not scope & {"apitokens:read", "settings:manage"}


@pytest.mark.parametrize(("person", "status"), [("member", 422), ("admin", 302), ("viewer", 403)])
def test_taking_over_is_granting(acme, person, status):
    token = acme.issue("owner", roles=["viewer"]).token
    with_more(acme.environment, "viewer", "settings:manage")
    answer = take_over(acme, person, token, permissions=["settings:manage"])
    assert answer.status_code == status
    assert ("settings:manage" in ApiToken.objects.get(pk=token.pk).granted) == (status == 302)


def test_nothing_is_taken_over_that_no_role_holds(acme):
    token = acme.issue("admin", roles=["viewer"]).token
    answer = take_over(acme, "admin", token, permissions=["settings:manage"])
    assert answer.status_code == 422
    picked = acme.issue("admin", name="Picked", permissions=["reports:read"]).token
    assert take_over(acme, "admin", picked, permissions=["reports:write"]).status_code == 422


def test_a_follower_is_offered_nothing(acme):
    token = acme.issue("viewer", owner="user").token
    MembershipRole.objects.filter(membership=acme.people["viewer"]).delete()
    give_role(acme.people["viewer"], acme.role("member"))
    page = acme.browser("viewer").get(acme.url(f"{token.token_id}/")).content.decode()
    assert "Its roles can do more since" not in page
