"""Roles: making or changing one is granting (R3), and what it loses its tokens lose at once (R4)."""

import json
from uuid import uuid4

import pytest
from django.utils import timezone

from apitokens.governance import impact
from apitokens.models import ApiToken, ApiTokenRole, TokenType, TokenTypeRole
from apitokens.setup import give_role, hold
from audit.models import AuditEvent
from tenants.models import Invitation, InvitationRole, MembershipRole, Permission, Role, RolePermission
from tests.cast import ROLES, bearer, everything_stored
from tests.factories import RoleFactory

LEVEL = {"viewer": 10, "member": 20, "admin": 30, "owner": 40}
SELF = "/api/v1/token/self"
# What signing in writes.
SIGN_IN = ("django_session", "accounts_user")


def holds(role):
    return set(RolePermission.objects.filter(role=role).values_list("permission__key", flat=True))


def own_role(house, key="own:clerk", level=15, permissions=("reports:read",), name=None):
    role = RoleFactory(
        environment=house.environment, tenant=house.tenant, key=key, level=level, name=name or key.removeprefix("own:")
    )
    hold(role, permissions)
    return role


def path(house, role=None, more=""):
    return f"roles{f'/{role.id}' if role else ''}?tenant={house.tenant.id}{more}"


@pytest.fixture
def clerk(acme):
    return own_role(acme)


# What the admin (level 30, holds no billing:manage) does to a role of the tenant's own, and what comes of it.
EDITS = [
    pytest.param(15, ["reports:read"], {"level": 30}, None, id="raised-to-own-level"),
    pytest.param(15, ["reports:read"], {"level": 31}, "role_above_ceiling", id="raised-above"),
    pytest.param(31, ["reports:read"], {"level": 5}, "role_above_ceiling", id="lowered-from-above"),
    pytest.param(31, ["reports:read"], {"name": "Harmless"}, "role_above_ceiling", id="renamed-above"),
    pytest.param(15, ["reports:read"], {"permissions": ["reports:read", "settings:manage"]}, None, id="given-held"),
    pytest.param(15, ["reports:read"], {"permissions": ["billing:manage"]}, "role_above_ceiling", id="given-not-held"),
    pytest.param(15, ["billing:manage"], {"permissions": []}, "role_above_ceiling", id="emptied-of-not-held"),
    pytest.param(15, ["billing:manage"], {"level": 1}, "role_above_ceiling", id="lowered-with-not-held"),
    pytest.param(15, ["reports:read"], {"permissions": []}, None, id="emptied"),
    pytest.param(15, ["reports:read"], {"level": 0}, None, id="lowered"),
    pytest.param(15, ["reports:read"], {"name": "Accounts"}, None, id="renamed"),
]


@pytest.mark.parametrize(("level", "permissions", "change", "refused"), EDITS)
def test_whoever_edits_a_role_covers_it_before_and_after(acme, level, permissions, change, refused):
    role = own_role(acme, level=level, permissions=permissions)
    before = (role.level, role.name, holds(role))
    answer = acme.api("admin", "PATCH", path(acme, role), change)
    assert answer.status_code == (403 if refused else 200), answer.content
    assert answer.json().get("code") == refused
    role.refresh_from_db()
    after = (role.level, role.name, holds(role))
    assert (after == before) == bool(refused)
    reasons = AuditEvent.objects.filter(verb="role.edited", target_id=role.id).values_list("reason", flat=True)
    assert list(reasons) == [refused or ""]


@pytest.mark.parametrize("own", ROLES)
@pytest.mark.parametrize("asked", [5, 10, 20, 30, 40, 41])
def test_a_role_is_made_up_to_ones_own_level(acme, own, asked):
    """Only admins and owners hold `roles:create`; of those each makes roles up to their own level."""
    body = {"name": "Clerk", "level": asked, "permissions": ["reports:read"]}
    answer = acme.api(own, "POST", path(acme), body)
    may = own in {"admin", "owner"}
    allowed = may and asked <= LEVEL[own]
    assert answer.status_code == (201 if allowed else 403)
    if not allowed:
        assert answer.json()["code"] == ("role_above_ceiling" if may else "insufficient_scope")
    assert Role.objects.filter(tenant=acme.tenant).count() == allowed


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    ("change", "strict_code", "loose_code"),
    [
        pytest.param({"permissions": ["reports:read", "settings:manage"]}, None, None, id="what-is-held"),
        pytest.param({"permissions": ["billing:manage"]}, "role_above_ceiling", "widens_own_role", id="not-held"),
        pytest.param({"level": 16}, "widens_own_role", "widens_own_role", id="raised"),
        pytest.param({"level": 14}, None, None, id="lowered"),
        pytest.param({"permissions": []}, None, None, id="emptied"),
    ],
)
def test_nobody_widens_a_role_that_they_hold_themselves(acme, clerk, strict, change, strict_code, loose_code):
    type(acme.environment).objects.update(strict_ceiling=strict)
    give_role(acme.people["admin"], clerk)
    answer = acme.api("admin", "PATCH", path(acme, clerk), change)
    refused = strict_code if strict else loose_code
    assert answer.json().get("code") == refused
    assert answer.status_code == (403 if refused else 200)
    if refused == "widens_own_role":
        assert list(answer.json()["errors"]) == list(change)


def test_without_the_strict_ceiling_a_role_is_still_given_only_what_its_editor_has(acme, clerk):
    type(acme.environment).objects.update(strict_ceiling=False)
    answer = acme.api("admin", "PATCH", path(acme, clerk), {"permissions": ["billing:manage"]})
    assert (answer.status_code, answer.json()["code"]) == (403, "permission_above_ceiling")
    made = acme.api("admin", "POST", path(acme), {"name": "X", "level": 1, "permissions": ["billing:manage"]})
    assert (made.status_code, made.json()["code"]) == (403, "permission_above_ceiling")
    hold(clerk, ["billing:manage"])
    assert acme.api("admin", "PATCH", path(acme, clerk), {"name": "Kept"}).status_code == 200


def test_a_role_made_by_api_is_answered_whole(acme):
    body = {"name": "Report reader", "level": 12, "permissions": ["reports:read"]}
    answer = acme.api("admin", "POST", path(acme), body)
    role = Role.objects.get(tenant=acme.tenant)
    assert answer.status_code == 201
    assert answer.json() == {
        "id": str(role.id),
        "key": "own:report-reader",
        "name": "Report reader",
        "level": 12,
        "tenant": str(acme.tenant.id),
        "permissions": ["reports:read"],
        "is_for_new_tenants": False,
        "version": answer.json()["version"],
    }
    assert answer["Location"] == f"/api/v1/roles/{role.id}"
    assert answer["ETag"] == f'"{answer.json()["version"]}"'
    event = AuditEvent.objects.get(verb="role.created")
    assert (event.tenant_id, event.target_id, event.before) == (acme.tenant.id, role.id, None)
    assert event.after == {
        "key": "own:report-reader",
        "name": "Report reader",
        "level": 12,
        "permissions": ["reports:read"],
    }


def test_the_vendors_roles_are_the_vendors(world, acme, office):
    viewer = acme.role("viewer")
    refused = acme.api("owner", "PATCH", path(acme, viewer), {"level": 1})
    assert (refused.status_code, refused.json()["code"]) == (403, "out_of_reach")
    assert acme.api("owner", "DELETE", path(acme, viewer)).status_code == 403
    for person, status in (("owner", 200), ("admin", 200), ("auditor", 403)):
        answer = office.api(person, "PATCH", f"roles/{viewer.id}", {"level": 11}, environment=world.production)
        assert answer.status_code == status, answer.content


def test_the_vendor_makes_a_role_for_all_tenants_and_each_of_them_has_it(world, acme, office):
    body = {"key": "clerk", "name": "Clerk", "level": 15, "permissions": ["reports:read"]}
    made = office.api("admin", "POST", "roles", body, environment=world.production)
    assert made.status_code == 201
    assert made.json()["tenant"] is None
    listed = [role["key"] for role in acme.api("viewer", "GET", path(acme)).json().get("results", [])]
    assert listed == []  # a viewer holds no roles:read
    listed = [role["key"] for role in acme.api("admin", "GET", path(acme)).json()["results"]]
    assert listed == ["admin", "backend", "clerk", "member", "owner", "viewer"]


def test_another_tenants_own_role_is_like_one_that_never_was(acme, globex, clerk):
    for method, body in (("GET", None), ("PATCH", {"level": 1}), ("DELETE", None)):
        stranger = globex.api("owner", method, path(globex, clerk), body)
        nobody = globex.api("owner", method, f"roles/{uuid4()}?tenant={globex.tenant.id}", body)
        assert stranger.status_code == nobody.status_code == 404
        assert stranger.content == nobody.content
    many = globex.api("owner", "PATCH", path(globex), {"roles": [{"id": str(clerk.id), "level": 1}]})
    assert many.status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param({"level": -1}, "level", id="level-below"),
        pytest.param({"level": 32_768}, "level", id="level-above"),
        pytest.param({"level": 10**30}, "level", id="level-huge"),
        pytest.param({"permissions": ["reports:raed"]}, "permissions", id="unknown-permission"),
        pytest.param({"name": " "}, "name", id="empty-name"),
        pytest.param({"name": "Bookkeeper"}, "name", id="name-taken"),
        pytest.param({"name": "bookKEEPER"}, "name", id="name-taken-in-another-case"),
        pytest.param({"levle": 1}, "levle", id="unknown-field"),
    ],
)
def test_what_makes_no_sense_names_its_field_and_changes_nothing(acme, clerk, body, field):
    own_role(acme, key="own:bookkeeper", name="Bookkeeper")
    before = everything_stored(but=SIGN_IN)
    answer = acme.api("owner", "PATCH", path(acme, clerk), body)
    assert answer.status_code == (409 if body.get("name", "").lower() == "bookkeeper" else 400)
    assert list(answer.json()["errors"]) == [field]
    assert everything_stored(but=SIGN_IN) == before


def test_a_key_is_unique_and_of_one_form(acme, clerk):
    for key, status in (("own:clerk", 409), ("clerk", 409), ("Clerk Two", 400), ("a:b", 400), ("clerk-2", 201)):
        answer = acme.api("owner", "POST", path(acme), {"key": key, "name": f"Name {key}", "level": 1})
        assert answer.status_code == status, (key, answer.content)
        if status != 201:
            assert list(answer.json()["errors"]) == ["key"]


def test_of_two_editors_the_second_has_to_look_again(acme, clerk):
    seen = acme.api("admin", "GET", path(acme, clerk))["ETag"]
    assert acme.api("owner", "PATCH", path(acme, clerk), {"level": 3}, **{"If-Match": seen}).status_code == 200
    stale = acme.api("admin", "PATCH", path(acme, clerk), {"level": 4}, **{"If-Match": seen})
    assert (stale.status_code, stale.json()["code"]) == (412, "stale")
    clerk.refresh_from_db()
    assert clerk.level == 3


def test_several_are_changed_all_or_none(acme, clerk):
    second = own_role(acme, key="own:second")
    rows = [{"id": str(clerk.id), "level": 7}, {"id": str(second.id), "level": 99}]
    answer = acme.api("admin", "PATCH", path(acme), {"roles": rows})
    assert (answer.status_code, answer.json()["role"]) == (403, "own:second")
    rows[1]["level"] = 8
    answer = acme.api("admin", "PATCH", path(acme), {"roles": rows})
    assert sorted(role["level"] for role in answer.json()["roles"]) == [7, 8]
    assert AuditEvent.objects.filter(verb="role.edited", outcome="done").count() == 2
    version = answer.json()["roles"][0]["version"]
    again = {"roles": [{"id": answer.json()["roles"][0]["id"], "version": version, "level": 9}]}
    assert acme.api("admin", "PATCH", path(acme), again).status_code == 200
    assert acme.api("admin", "PATCH", path(acme), again).status_code == 412


def test_what_a_role_loses_its_tokens_lose_and_what_it_gains_they_do_not_get(acme, machine, clerk):
    token = acme.issue("admin", roles=["own:clerk"])
    change = {"permissions": ["settings:manage", "reports:read"]}
    acme.api("admin", "PATCH", path(acme, clerk), change)
    assert machine.get(SELF, headers=bearer(token.plaintext)).json()["scope"] == "reports:read"
    acme.api("admin", "PATCH", path(acme, clerk), {"permissions": ["settings:manage"]})
    assert machine.get(SELF, headers=bearer(token.plaintext)).status_code == 401


def test_a_dry_run_says_who_would_lose_what_and_does_nothing(acme, clerk):
    give_role(acme.people["viewer"], clerk)
    hold(clerk, ["reports:write"])
    whole = acme.issue("admin", name="Whole", roles=["own:clerk"]).token
    part = acme.issue("admin", name="Part", roles=["own:clerk"], without=["reports:read"]).token
    acme.issue("admin", name="Other", roles=["viewer"])
    acme.issue("viewer", owner="user", name="Follows")
    before = everything_stored(but=SIGN_IN)
    answer = acme.api("admin", "PATCH", path(acme, clerk, "&dry_run=true"), {"permissions": ["reports:read"]})
    body = answer.json()
    assert answer.status_code == 200
    assert {row["id"]: (row["lost"], row["stops"]) for row in body["tokens"]} == {
        whole.token_id: (["reports:write"], False),
        part.token_id: (["reports:write"], True),
        ApiToken.objects.get(name="Follows").token_id: (["reports:write"], False),
    }
    assert (body["count"], body["is_capped"], body["members"]) == (3, False, 1)
    assert everything_stored(but=SIGN_IN) == before
    acme.api("admin", "PATCH", path(acme, clerk), {"permissions": ["reports:read"]})
    assert acme.api("admin", "GET", f"tokens/{part.token_id}").json()["state"] == "powerless"


def test_a_dry_run_that_compares_no_more_says_so(acme, clerk, monkeypatch):
    monkeypatch.setattr(impact, "COMPARED", 2)
    monkeypatch.setattr(impact, "NAMED", 1)
    for number in range(3):
        acme.issue("admin", name=f"CI {number}", roles=["own:clerk"])
    body = acme.api("admin", "PATCH", path(acme, clerk, "&dry_run=true"), {"permissions": []}).json()
    assert (body["count"], body["is_capped"], len(body["tokens"])) == (2, True, 1)


def test_a_dry_run_names_only_tokens_that_one_may_see(acme, clerk):
    hold(clerk, ["roles:create", "roles:read"])
    give_role(acme.people["member"], clerk)
    give_role(acme.people["admin"], clerk)
    acme.issue("admin", roles=["own:clerk"], owner="user", name="Adas own")
    body = acme.api("member", "PATCH", path(acme, clerk, "&dry_run=true"), {"permissions": []}).json()
    assert (body["count"], body["tokens"]) == (1, [])


@pytest.fixture
def used(acme, clerk):
    """The role in the hands of one of everything."""
    give_role(acme.people["viewer"], clerk)
    issued = acme.issue("admin", roles=["own:clerk"])
    now = timezone.now()
    invitation = Invitation.objects.create(
        vendor=acme.environment.vendor,
        environment=acme.environment,
        tenant=acme.tenant,
        email="new@example.com",
        digest=b"1" * 32,
        expires_at=now + timezone.timedelta(days=1),
    )
    InvitationRole.objects.create(
        invitation=invitation,
        role=clerk,
        tenant=acme.tenant,
        environment=acme.environment,
        role_scope_id=clerk.scope_id,
    )
    token_type = TokenType.objects.get(environment=acme.environment, owner="tenant", kind="access_token")
    TokenTypeRole.objects.create(
        token_type=token_type, role=clerk, environment=acme.environment, owner="tenant", kind="access_token"
    )
    return issued


USAGE = {"members": 1, "tokens": 1, "invitations": 1, "sign_ons": 0, "token_types": 1, "new_tenants": 0}


def test_a_role_in_use_is_not_deleted_unsaid(acme, clerk, used):
    before = everything_stored(but=SIGN_IN)
    answer = acme.api("admin", "DELETE", path(acme, clerk))
    assert (answer.status_code, answer.json()["code"], answer.json()["usage"]) == (409, "in_use", USAGE)
    assert "1 member, 1 token, 1 open invitation, 1 token type" in answer.json()["detail"]
    assert acme.api("admin", "GET", path(acme, clerk)).json()["usage"] == USAGE
    assert everything_stored(but=SIGN_IN) == before


def test_forced_it_goes_from_all_who_have_it(acme, machine, clerk, used):
    assert acme.api("admin", "DELETE", path(acme, clerk, "&force=true")).status_code == 204
    assert not Role.objects.filter(pk=clerk.pk).exists()
    assert machine.get(SELF, headers=bearer(used.plaintext)).status_code == 401
    event = AuditEvent.objects.get(verb="role.deleted")
    assert (event.before["usage"], event.after) == (USAGE, {"replacement": None})
    trail = AuditEvent.objects.get(verb="apitoken.role_deleted")
    assert (trail.target_id, trail.before["roles"], trail.after["roles"]) == (used.token.id, ["own:clerk"], [])
    # One of the same key, made anew, comes back to nobody.
    own_role(acme)
    assert machine.get(SELF, headers=bearer(used.plaintext)).status_code == 401


def test_a_replacement_takes_its_place_everywhere_and_widens_no_token(acme, machine, clerk, used):
    hold(clerk, ["reports:write"])
    answer = acme.api("admin", "DELETE", path(acme, clerk, "&replacement=member"))
    assert answer.status_code == 204, answer.content
    member = acme.role("member")
    assert {role.key for role in acme.people["viewer"].roles.all()} == {"viewer", "member"}
    assert ApiTokenRole.objects.get(token=used.token).role == member
    assert InvitationRole.objects.get().role == member
    assert TokenTypeRole.objects.get().role == member
    # It was granted reports:read; the member role has more.
    assert machine.get(SELF, headers=bearer(used.plaintext)).json()["scope"] == "reports:read"


def test_whoever_has_the_replacement_already_has_it_once(acme, clerk, used):
    give_role(acme.people["viewer"], acme.role("member"))
    assert acme.api("admin", "DELETE", path(acme, clerk, "&replacement=member")).status_code == 204
    assert MembershipRole.objects.filter(membership=acme.people["viewer"]).count() == 2


@pytest.mark.parametrize(
    ("replacement", "status", "code"),
    [
        pytest.param("admin", 204, None, id="up-to-ones-own"),
        pytest.param("owner", 403, "role_above_ceiling", id="above"),
        pytest.param("own:clerk", 400, "invalid", id="itself"),
        pytest.param("nothing", 400, "invalid", id="unknown"),
        pytest.param("\0", 400, "invalid", id="no-text"),
    ],
)
def test_a_replacement_passes_the_ceiling(acme, clerk, used, replacement, status, code):
    answer = acme.api("admin", "DELETE", path(acme, clerk, f"&replacement={replacement}"))
    assert answer.status_code == status
    assert (answer.json()["code"] if code else None) == code
    assert Role.objects.filter(pk=clerk.pk).exists() == bool(code)


def test_nobody_replaces_a_role_of_theirs_by_a_wider_one(acme, clerk):
    """Without the strict ceiling it would be within their level."""
    type(acme.environment).objects.update(strict_ceiling=False)
    wider = own_role(acme, key="own:wider", permissions=["billing:manage"])
    give_role(acme.people["admin"], clerk)
    answer = acme.api("admin", "DELETE", path(acme, clerk, f"&replacement={wider.key}"))
    assert (answer.status_code, answer.json()["code"]) == (403, "widens_own_role")


def test_a_role_above_ones_own_is_not_deleted(acme):
    role = own_role(acme, level=31)
    answer = acme.api("admin", "DELETE", path(acme, role))
    assert (answer.status_code, answer.json()["code"]) == (403, "role_above_ceiling")
    assert acme.api("owner", "DELETE", path(acme, role)).status_code == 204


def test_the_vendors_role_is_replaced_by_one_of_the_vendors_only(world, acme, office, clerk):
    member = acme.role("member")
    url = f"roles/{member.id}?replacement={clerk.key}"
    answer = office.api("owner", "DELETE", url, environment=world.production)
    assert (answer.status_code, answer.json()["code"]) == (400, "not_available")
    staging = world.acme_staging.role("viewer")
    foreign = office.api("owner", "DELETE", f"roles/{member.id}?replacement={staging.id}", environment=world.production)
    assert (foreign.status_code, foreign.json()["code"]) == (400, "invalid")


def test_a_vendors_role_in_use_counts_all_tenants_for_the_vendor_and_one_for_a_tenant(world, acme, office):
    acme.issue("admin", roles=["viewer"])
    viewer = acme.role("viewer")
    usage = {"members": 2, "tokens": 1, "invitations": 0, "sign_ons": 0, "token_types": 0, "new_tenants": 0}
    vendors = office.api("auditor", "GET", f"roles/{viewer.id}", environment=world.production).json()["usage"]
    assert vendors == usage
    assert world.globex.api("admin", "GET", path(world.globex, viewer)).json()["usage"] == {
        **usage,
        "members": 1,
        "tokens": 0,
    }


def test_the_role_of_new_tenants_is_in_use_and_hands_that_on(world, office):
    RoleFactory(environment=world.production, key="first", is_for_new_tenants=True)
    RoleFactory(environment=world.production, key="second")
    first = Role.objects.get(key="first")
    refused = office.api("owner", "DELETE", f"roles/{first.id}", environment=world.production)
    assert refused.json()["usage"]["new_tenants"] == 1
    office.api("owner", "DELETE", f"roles/{first.id}?replacement=second", environment=world.production)
    assert Role.objects.get(is_for_new_tenants=True).key == "second"


def test_no_edit_of_its_own_roles_takes_a_tenants_last_keeper(acme):
    """Who alone can manage members can't lose that by an edit of the role they have it from."""
    keeper = own_role(acme, key="own:keeper", level=45, permissions=["members:create", "roles:create", "roles:delete"])
    olga = acme.people["owner"]
    MembershipRole.objects.filter(tenant=acme.tenant).delete()
    give_role(olga, keeper)
    for change in ({"permissions": ["roles:create", "roles:delete"]}, {"level": 44}):
        answer = acme.api("owner", "PATCH", path(acme, keeper), change)
        assert (answer.status_code, answer.json()["code"]) == (409, "last_owner"), answer.content
    assert acme.api("owner", "DELETE", path(acme, keeper, "&force=true")).json()["code"] == "last_owner"
    give_role(acme.people["admin"], acme.role("owner"))
    Role.objects.filter(pk=acme.role("owner").pk).update(level=45)
    assert acme.api("owner", "PATCH", path(acme, keeper), {"level": 44}).status_code == 200


def test_a_token_edits_roles_under_its_own_ceiling(world, acme, machine):
    backend = acme.issue_for_environment(kind="access_token")
    roles = world.production.roles
    viewer, own = acme.role("viewer"), roles.get(key="backend")
    call = lambda method, where, body: machine.generic(  # noqa: E731 -- one line, used twice
        method, f"/api/v1/{where}", json.dumps(body), content_type="application/json", headers=bearer(backend.plaintext)
    )
    assert call("PATCH", f"roles/{viewer.id}", {"level": 11}).status_code == 200
    assert call("PATCH", f"roles/{viewer.id}", {"level": 1001}).json()["code"] == "role_above_ceiling"
    widened = call("PATCH", f"roles/{own.id}", {"level": 1000, "permissions": [*holds(own), "environments:delete"]})
    assert widened.json()["code"] == "role_above_ceiling"
    type(world.production).objects.update(strict_ceiling=False)
    widened = call("PATCH", f"roles/{own.id}", {"permissions": [*holds(own), "environments:delete"]})
    assert (widened.status_code, widened.json()["code"]) == (403, "widens_own_role")
    made = call("POST", f"roles?tenant={acme.tenant.id}", {"name": "By machine", "level": 1})
    assert (made.status_code, made.json()["key"]) == (201, "own:by-machine")


def test_there_are_no_more_roles_than_pages_can_show(acme, monkeypatch):
    from apitokens.governance import roles

    monkeypatch.setattr(roles, "MOST_ROLES", 1)
    assert acme.api("owner", "POST", path(acme), {"name": "One", "level": 1}).status_code == 201
    answer = acme.api("owner", "POST", path(acme), {"name": "Two", "level": 1})
    assert (answer.status_code, answer.json()["code"]) == (409, "limit_reached")


def test_a_permission_of_another_environment_is_unknown(world, acme, clerk):
    Permission.objects.create(environment=world.staging, key="staging:only")
    answer = acme.api("owner", "PATCH", path(acme, clerk), {"permissions": ["staging:only"]})
    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["permissions"])
