"""R4, R5: what a token may do is computed at each use; what was ended stays ended, what was narrowed stays narrow."""

import pytest
from django.db.models import F
from django.utils import timezone

from apitokens.models import ApiToken, TokenType
from apitokens.setup import give_role, hold
from tenants.models import Environment, Membership, MembershipRole, Role, RolePermission, Tenant
from tests.answers import UNKNOWN_TOKEN, unauthorized
from tests.cast import bearer, jwt_of

SELF = "/api/v1/token/self"


def scope(machine, token):
    answer = machine.get(SELF, headers=bearer(token))
    assert answer.status_code == 200, answer.content
    return set(answer.json()["scope"].split())


def dead(machine, token, reason):
    unauthorized(machine.get(SELF, headers=bearer(token)), f"The token is right but does not work. {reason}")


def demote(membership, *keys):
    """To exactly these roles."""
    MembershipRole.objects.filter(membership=membership).delete()
    for key in keys:
        give_role(membership, Role.objects.get(environment=membership.environment, tenant=None, key=key))


def let_go(role, key):
    RolePermission.objects.filter(role=role, permission__key=key).delete()


SUSPENDED = [
    pytest.param(Environment, "environment_id", "suspended_at", "Its environment is suspended.", id="environment"),
    pytest.param(Tenant, "tenant_id", "suspended_at", "Its tenant is suspended.", id="tenant"),
    pytest.param(Membership, "membership_id", "suspended_at", "Its owner is suspended or has left.", id="membership"),
    pytest.param(ApiToken, "id", "disabled_at", "It is disabled.", id="token"),
]


@pytest.mark.parametrize(("model", "key", "field", "reason"), SUSPENDED)
def test_a_jwt_stays_dead_after_what_ended_it_is_undone(acme, machine, model, key, field, reason):
    """Suspending raises the row's generation (R5); the secret works again, the JWT of before never does."""
    client = acme.issue("admin", owner="user", kind="client_credentials")
    opaque = acme.issue("admin", owner="user", name="Opaque")
    other = jwt_of(machine, acme.issue("member", owner="user", kind="client_credentials"))
    jwt = jwt_of(machine, client)
    assert scope(machine, jwt) == scope(machine, opaque.plaintext)
    rows = model.objects.filter(pk__in=[getattr(issued.token, key) for issued in (client, opaque)])
    rows.update(**{field: timezone.now()}, generation=F("generation") + 1)
    unauthorized(machine.get(SELF, headers=bearer(jwt)), UNKNOWN_TOKEN)
    dead(machine, opaque.plaintext, reason)
    rows.update(**{field: None})
    unauthorized(machine.get(SELF, headers=bearer(jwt)), UNKNOWN_TOKEN)
    assert scope(machine, opaque.plaintext) == scope(machine, jwt_of(machine, client))
    colleague = machine.get(SELF, headers=bearer(other)).status_code
    assert colleague == (200 if model in {Membership, ApiToken} else 401)


def test_a_jwt_stays_dead_after_its_type_is_switched_on_again(acme, machine):
    client = acme.issue("admin", kind="client_credentials")
    jwt = jwt_of(machine, client)
    row = TokenType.objects.filter(pk=client.token.token_type_id)
    row.update(is_enabled=False, generation=F("generation") + 1)
    unauthorized(machine.get(SELF, headers=bearer(jwt)), UNKNOWN_TOKEN)
    row.update(is_enabled=True)
    unauthorized(machine.get(SELF, headers=bearer(jwt)), UNKNOWN_TOKEN)
    assert scope(machine, jwt_of(machine, client))


def test_disabled_and_enabled_over_the_api_a_jwt_stays_dead(acme, machine):
    client = acme.issue("admin", kind="client_credentials")
    jwt, path = jwt_of(machine, client), f"tokens/{client.token.token_id}"
    assert acme.api("admin", "POST", f"{path}/disable").json()["state"] == "disabled"
    unauthorized(machine.get(SELF, headers=bearer(jwt)), UNKNOWN_TOKEN)
    assert acme.api("admin", "POST", f"{path}/enable").json()["state"] == "usable"
    unauthorized(machine.get(SELF, headers=bearer(jwt)), UNKNOWN_TOKEN)
    assert scope(machine, jwt_of(machine, client))


def test_a_jwt_is_dead_once_its_token_is_deleted(acme, machine):
    client = acme.issue("admin", kind="client_credentials")
    jwt = jwt_of(machine, client)
    assert acme.api("admin", "DELETE", f"tokens/{client.token.token_id}").status_code == 204
    unauthorized(machine.get(SELF, headers=bearer(jwt)), UNKNOWN_TOKEN)


@pytest.mark.parametrize("suspended", ["acme", "globex"])
def test_a_jwt_bound_to_a_tenant_dies_with_that_tenant_alone(world, machine, suspended):
    client = world.acme.issue_for_environment(kind="client_credentials")
    bound = jwt_of(machine, client, tenant=str(world.acme.tenant.id))
    unbound = jwt_of(machine, client)
    tenant = Tenant.objects.filter(pk=getattr(world, suspended).tenant.pk)
    tenant.update(suspended_at=timezone.now(), generation=F("generation") + 1)
    tenant.update(suspended_at=None)
    assert machine.get(SELF, headers=bearer(bound)).status_code == (401 if suspended == "acme" else 200)
    assert machine.get(SELF, headers=bearer(unbound)).status_code == 200


def test_a_live_jwt_may_do_its_scope_as_far_as_its_token_may_still(acme, machine):
    client = acme.issue("admin", kind="client_credentials", roles=["member"])
    wide, narrow = jwt_of(machine, client), jwt_of(machine, client, scope="reports:read")
    before = scope(machine, wide)
    let_go(acme.role("member"), "reports:write")
    assert scope(machine, wide) == before - {"reports:write"}
    assert scope(machine, narrow) == {"reports:read"}
    let_go(acme.role("member"), "reports:read")
    dead(machine, narrow, "Nothing it was granted is left.")
    hold(acme.role("member"), ["reports:write", "reports:read"])
    assert (scope(machine, wide), scope(machine, narrow)) == (before, {"reports:read"})


def test_a_permission_added_to_a_role_is_not_taken_over(acme, machine):
    opaque = acme.issue("admin", roles=["viewer"])
    client = acme.issue("admin", name="Client", kind="client_credentials", roles=["viewer"])
    jwt, before = jwt_of(machine, client), scope(machine, opaque.plaintext)
    hold(acme.role("viewer"), ["reports:write"])
    assert scope(machine, opaque.plaintext) == scope(machine, jwt) == before
    assert scope(machine, jwt_of(machine, client)) == before
    newer = acme.issue("admin", name="Newer", roles=["viewer"])
    assert scope(machine, newer.plaintext) == before | {"reports:write"}


@pytest.mark.parametrize(("level", "works"), [(29, True), (30, True), (31, False)])
def test_a_role_raised_above_its_grantors_level_drops_out(acme, machine, level, works):
    """Ada, of level 30, granted them; the member's role is raised."""
    alone = acme.issue("admin", name="Alone", roles=["member"])
    beside = acme.issue("admin", name="Beside", roles=["member", "viewer"])
    both, viewer = scope(machine, beside.plaintext), scope(machine, acme.issue("admin", name="V").plaintext)
    Role.objects.filter(pk=acme.role("member").pk).update(level=level)
    roles = machine.get(SELF, headers=bearer(beside.plaintext)).json()["roles"]
    if works:
        assert (scope(machine, alone.plaintext), scope(machine, beside.plaintext)) == (both, both)
        assert roles == ["member", "viewer"]
    else:
        dead(machine, alone.plaintext, "Nothing it was granted is left.")
        assert (scope(machine, beside.plaintext), roles) == (viewer, ["viewer"])
    Role.objects.filter(pk=acme.role("member").pk).update(level=20)
    assert scope(machine, alone.plaintext) == both


def test_a_personal_token_shrinks_with_its_owner_and_comes_back_up_to_its_grant(acme, machine):
    ada = acme.people["admin"]
    granted = acme.issue("admin", owner="user", name="Granted", roles=["member"])
    picked = acme.issue("admin", owner="user", name="Picked", permissions=["reports:write", "reports:read"])
    follower = acme.issue("admin", owner="user", name="Follower")
    service = acme.issue("admin", name="Service", roles=["member"])
    as_member, as_admin = scope(machine, service.plaintext), scope(machine, follower.plaintext)
    demote(ada, "viewer")
    as_viewer = scope(machine, follower.plaintext)
    assert scope(machine, granted.plaintext) == as_viewer == as_member - {
        "apitokens:create", "apitokens:delete", "reports:write",
    }  # fmt: skip
    assert scope(machine, picked.plaintext) == {"reports:read"}
    assert scope(machine, service.plaintext) == as_member
    demote(ada)
    for token in (granted, picked, follower):
        dead(machine, token.plaintext, "Nothing it was granted is left.")
    demote(ada, "owner")
    assert scope(machine, granted.plaintext) == as_member
    assert scope(machine, picked.plaintext) == {"reports:write", "reports:read"}
    assert scope(machine, follower.plaintext) == as_admin | {"billing:manage"}


@pytest.mark.parametrize("how", ["suspended", "left", "locked out"])
def test_a_personal_token_stops_with_its_owner_and_comes_back_capped(acme, machine, how):
    ada = acme.people["admin"]
    mine = acme.issue("admin", owner="user", name="Mine", roles=["member"])
    service = acme.issue("admin", name="Service", roles=["member"])
    before = scope(machine, mine.plaintext)
    if how == "locked out":
        type(ada.user).objects.filter(pk=ada.user_id).update(is_active=False)
    else:
        field = "suspended_at" if how == "suspended" else "ended_at"
        Membership.objects.filter(pk=ada.pk).update(**{field: timezone.now()})
    dead(machine, mine.plaintext, "Its owner is suspended or has left.")
    assert scope(machine, service.plaintext) == before
    type(ada.user).objects.filter(pk=ada.user_id).update(is_active=True)
    Membership.objects.filter(pk=ada.pk).update(suspended_at=None, ended_at=None)
    demote(ada, "viewer")
    assert scope(machine, mine.plaintext) == before - {"apitokens:create", "apitokens:delete", "reports:write"}
