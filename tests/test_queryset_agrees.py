"""R5: one answer to "does it work": the queryset, the policy and HTTP agree for every token in every world."""

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from apitokens.models import ApiToken, TokenType
from apitokens.setup import give_role
from tenants.models import (
    ApiIdentifier,
    Environment,
    Membership,
    MembershipRole,
    Permission,
    Role,
    RolePermission,
    Tenant,
)
from tests.agreement import answer_to, by_queryset_and_policy
from tests.factories import VendorMembershipFactory, insert_copy


@pytest.fixture
def tokens(world):
    """One of every cell, however granted; secret by name. The vendor's personal ones exist as rows alone."""
    acme, made = world.acme, {}
    for kind in ("access_token", "client_credentials"):
        asked = {
            "tenant-roles": {"roles": ["member"]},
            "tenant-roles-two": {"roles": ["member", "viewer"]},
            "tenant-roles-less": {"roles": ["member"], "without": ["reports:read"]},
            "tenant-picked": {"permissions": ["reports:read", "reports:write"]},
            "user-roles": {"owner": "user", "roles": ["member"]},
            "user-picked": {"owner": "user", "permissions": ["reports:write"]},
            "user-follows": {"owner": "user"},
            "tenant-held": {"roles": ["member"], "audiences": (world.production.issuer,)},
            "tenant-expiring": {"roles": ["member"], "expires_at": timezone.now() + timedelta(hours=1)},
        }
        for name, grant_asked in asked.items():
            made[f"{name}-{kind}"] = acme.issue("admin", name=f"{name} {kind}", kind=kind, **grant_asked)
        made[f"environment-{kind}"] = acme.issue_for_environment(name=f"Backend {kind}", kind=kind)
        made[f"environment-picked-{kind}"] = acme.issue_for_environment(
            name=f"Picked {kind}", kind=kind, roles=[], permissions=["reports:read"]
        )
    _vendors_personal(world, made["user-picked-access_token"].token)
    return made


def _vendors_personal(world, token):
    """Copies of a personal token for people of the vendor, who get none by any door yet."""
    admin = VendorMembershipFactory(vendor=world.vendor, role="admin")
    auditor = VendorMembershipFactory(vendor=world.vendor, role="auditor")
    unlisted = VendorMembershipFactory(vendor=world.vendor, role="owner", in_all_environments=False)
    for name, membership in (("admin", admin), ("auditor", auditor), ("unlisted", unlisted)):
        vendors = {"tenant": None, "membership": None, "vendor": world.vendor.id, "vendor_membership": membership.id}
        insert_copy(token, {**vendors, "token_id": f"vendor-{name}"[:12], "client_id": f"vendor-{name}"})


def _role(world, key):
    return Role.objects.get(environment=world.production, tenant=None, key=key)


def _demote(world, *keys):
    MembershipRole.objects.filter(membership=world.acme.people["admin"]).delete()
    for key in keys:
        give_role(world.acme.people["admin"], _role(world, key))


def _update(model, pick, **fields):
    return lambda world: model.objects.filter(pk=pick(world).pk).update(**fields)


NOW = timezone.now()
WORLDS = {
    "as it was": lambda world: None,
    "environment suspended": _update(Environment, lambda w: w.production, suspended_at=NOW),
    "environment deleted": _update(Environment, lambda w: w.production, deleted_at=NOW),
    "other environment suspended": _update(Environment, lambda w: w.staging, suspended_at=NOW),
    "tenant suspended": _update(Tenant, lambda w: w.acme.tenant, suspended_at=NOW),
    "tenant deleted": _update(Tenant, lambda w: w.acme.tenant, deleted_at=NOW),
    "other tenant suspended": _update(Tenant, lambda w: w.globex.tenant, suspended_at=NOW),
    "owner suspended": _update(Membership, lambda w: w.acme.people["admin"], suspended_at=NOW),
    "owner left": _update(Membership, lambda w: w.acme.people["admin"], ended_at=NOW),
    "owner locked out": lambda w: (
        type(w.acme.people["admin"].user).objects.filter(pk=w.acme.people["admin"].user_id).update(is_active=False)
    ),
    "owner demoted": lambda w: _demote(w, "viewer"),
    "owner without a role": _demote,
    "owner promoted": lambda w: _demote(w, "owner"),
    "tenant tokens switched off": lambda w: TokenType.objects.filter(owner="tenant").update(is_enabled=False),
    "personal tokens switched off": lambda w: TokenType.objects.filter(owner="user").update(is_enabled=False),
    "access tokens switched off": lambda w: TokenType.objects.filter(kind="access_token").update(is_enabled=False),
    "all disabled": lambda w: ApiToken.objects.update(disabled_at=NOW),
    "role raised above the grantor": lambda w: Role.objects.filter(pk=_role(w, "member").pk).update(level=31),
    "role raised to the grantor": lambda w: Role.objects.filter(pk=_role(w, "member").pk).update(level=30),
    "owner's role raised": lambda w: Role.objects.filter(pk=_role(w, "admin").pk).update(level=99),
    "role emptied": lambda w: RolePermission.objects.filter(role=_role(w, "member")).delete(),
    "owner's role emptied": lambda w: RolePermission.objects.filter(role=_role(w, "admin")).delete(),
    "all roles emptied": lambda w: RolePermission.objects.all().delete(),
    "a permission removed": lambda w: RolePermission.objects.filter(permission__key="reports:write").delete(),
    "all but one removed": lambda w: RolePermission.objects.exclude(permission__key="reports:read").delete(),
    "nothing personal any more": lambda w: Permission.objects.update(for_personal_tokens=False),
    "granted by the vendor": lambda w: ApiToken.objects.update(grantor_level=None),
    "granted by the vendor, role raised": lambda w: (
        ApiToken.objects.update(grantor_level=None),
        Role.objects.filter(pk=_role(w, "member").pk).update(level=32_000),
    ),
    "one by the vendor, one by a member, role raised": lambda w: (
        ApiToken.objects.filter(kind="access_token").update(grantor_level=None),
        Role.objects.filter(pk=_role(w, "member").pk).update(level=32_000),
    ),
    "beginning in an hour": lambda w: ApiToken.objects.filter(expires_at=None).update(
        not_before=NOW + timedelta(hours=1)
    ),
    "beginning this moment": lambda w: ApiToken.objects.update(not_before=NOW),
    "held to an identifier that is gone": lambda w: ApiToken.objects.filter(owner="tenant").update(
        audiences=["https://gone.example.com"]
    ),
    "held to one that is left": lambda w: ApiToken.objects.update(
        audiences=["https://gone.example.com", ApiIdentifier.objects.get(environment=w.production).uri]
    ),
    "held to another environment's issuer": lambda w: ApiToken.objects.update(audiences=[w.staging.issuer]),
    "without any identifier": lambda w: ApiIdentifier.objects.all().delete(),
    "granted nothing": lambda w: ApiToken.objects.update(granted=[]),
}


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("hours", [0, 2])
def test_queryset_policy_and_http_agree(world, tokens, machine, name, hours):
    WORLDS[name](world)
    at = timezone.now() + timedelta(hours=hours)
    queryset, policies = by_queryset_and_policy(at=at)
    with time_machine.travel(at, tick=False):
        accepted = {label: _accepted(machine, issued) for label, issued in tokens.items()}
    names = {issued.token.token_id: label for label, issued in tokens.items()}
    by_queryset = {names.get(token_id, token_id): works for token_id, works in queryset.items()}
    by_policy = {names.get(token_id, token_id): works for token_id, works in policies.items()}
    assert by_queryset == by_policy
    assert accepted == {label: by_policy[label] for label in tokens}
    if name == "as it was":
        assert [label for label, works in accepted.items() if not works] == (
            [] if hours == 0 else ["tenant-expiring-access_token", "tenant-expiring-client_credentials"]
        )


def test_a_personal_token_of_the_vendors_that_follows_its_owner_is_judged_alike(world):
    _vendors_personal(world, world.acme.issue("admin", owner="user").token)
    at = timezone.now()
    queryset, policies = by_queryset_and_policy(at=at)
    vendors = ApiToken.objects.filter(vendor__isnull=False).values_list("token_id", flat=True)
    assert {token_id for token_id in vendors if queryset[token_id]} == {"vendor-admin"}
    assert {token_id for token_id in vendors if policies[token_id]} == {"vendor-admin"}


def _accepted(machine, issued):
    answer = answer_to(machine, issued)
    if issued.token.kind == "client_credentials":
        assert answer.status_code == 200 or (answer.status_code, answer.json()["error"]) == (400, "unauthorized_client")
    elif answer.status_code != 200:
        assert answer.status_code == 401
        assert answer.json()["detail"].startswith("The token is right but does not work.")
    return answer.status_code == 200
