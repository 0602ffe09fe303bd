"""A new environment: what it is born with, so that it works before anybody configures it."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils.translation import gettext_noop

from apitokens import keyring
from apitokens.models import DAY, Kind, Owner, TokenType
from audit.actors import Actor
from audit.services import record
from tenants.models import (
    ApiIdentifier,
    Environment,
    Membership,
    MembershipRole,
    Permission,
    Role,
    RolePermission,
    Tenant,
    Vendor,
)

# Guard our own pages and endpoints; the same in every environment.
BUILT_IN = {
    "apitokens:read": gettext_noop("See the tenant's tokens"),
    "apitokens:create": gettext_noop("Make, change and enable the tenant's tokens"),
    "apitokens:delete": gettext_noop("Disable and delete the tenant's tokens"),
    "personal-apitokens:read": gettext_noop("See personal tokens"),
    "personal-apitokens:create": gettext_noop("Make, change and enable personal tokens"),
    "personal-apitokens:delete": gettext_noop("Disable and delete personal tokens"),
    "environment-tokens:read": gettext_noop("See the environment's tokens"),
    "environment-tokens:create": gettext_noop("Make, change and enable the environment's tokens"),
    "environment-tokens:delete": gettext_noop("Disable and delete the environment's tokens"),
    "members:read": gettext_noop("See the members, and what personal tokens they have"),
    "members:create": gettext_noop("Invite members, give them roles, reinstate them"),
    "members:delete": gettext_noop("Suspend and remove members, stop and delete their personal tokens"),
    "roles:read": gettext_noop("See the roles and what they hold"),
    "roles:create": gettext_noop("Make and change roles"),
    "roles:delete": gettext_noop("Delete roles"),
    "sso:read": gettext_noop("See how the tenant's people sign in by single sign-on"),
    "sso:create": gettext_noop("Set up and change single sign-on, and make it the only way in"),
    "sso:delete": gettext_noop("Remove single sign-on"),
    "audit:read": gettext_noop("Read the record of what was done"),
    "tenants:read": gettext_noop("See the environment's tenants"),
    "tenants:create": gettext_noop("Make, change and reinstate tenants"),
    "tenants:delete": gettext_noop("Suspend and delete tenants"),
    "permissions:read": gettext_noop("See the permissions that exist"),
    "permissions:create": gettext_noop("Make and change permissions"),
    "permissions:delete": gettext_noop("Delete permissions"),
    "token-types:read": gettext_noop("See which tokens may exist"),
    "token-types:create": gettext_noop("Change which tokens may exist"),
    "environments:read": gettext_noop("See the environment"),
    "environments:create": gettext_noop("Change and reinstate the environment"),
    "environments:delete": gettext_noop("Suspend and delete the environment"),
    "signing-keys:read": gettext_noop("See the environment's signing keys"),
    "signing-keys:create": gettext_noop("Publish a new signing key and let it take over"),
    "signing-keys:delete": gettext_noop("Declare a signing key compromised: everything it signed is dead at once"),
    "usage:read": gettext_noop("See how often tokens are used"),
    "portal-sessions:read": gettext_noop("See which portal sessions are live"),
    "portal-sessions:create": gettext_noop("Open the portal for people signed in to the vendor's own product"),
    "portal-sessions:delete": gettext_noop("End portal sessions"),
    "tokens:introspect": gettext_noop("Ask whether a token is active, and what it may do"),
    "token:self:rotate": gettext_noop("Replace its own secret"),
}
PERSONAL = frozenset(key for key in BUILT_IN if key.startswith("personal-"))
ENVIRONMENT_FAMILIES = (
    "environment-tokens:", "tenants:", "permissions:", "token-types:", "environments:", "signing-keys:",
    "portal-sessions:",
)  # fmt: skip
ENVIRONMENT_ONLY = frozenset(key for key in BUILT_IN if key.startswith(ENVIRONMENT_FAMILIES))
# A personal token would see nothing by it.
SEES_NOBODYS = {"tokens:introspect"}
VIEWER = PERSONAL | {"apitokens:read"}
MEMBER = VIEWER | {"apitokens:create", "apitokens:delete"}
ADMIN = MEMBER | {key for key in BUILT_IN if key.startswith(("members:", "roles:", "sso:", "audit:", "usage:"))}
# The vendor's own program does its daily work; what changes the environment itself is for people, until they say so.
NOT_FOR_BACKENDS = {
    "environments:create",
    "environments:delete",
    "token-types:create",
    "signing-keys:create",
    "signing-keys:delete",
}
# (key, name, level, built-in permissions); the vendor adds those of its own API.
ROLES = (
    ("viewer", "Viewer", 10, VIEWER),
    ("member", "Member", 20, MEMBER),
    ("admin", "Admin", 30, ADMIN),
    ("owner", "Owner", 40, ADMIN),
    ("backend", "Backend", 1000, frozenset(BUILT_IN) - NOT_FOR_BACKENDS),
)


@transaction.atomic
def create_environment(
    *,
    actor: Actor,
    vendor: Vendor,
    name: str,
    slug: str,
    token_prefix: str,
    audience: str,
    at: datetime,
    colour: str = Environment.Colour.BLUE,
    signing_algorithm: str = Environment.Algorithm.ES256,
) -> Environment:
    """An environment with its built-in permissions, editable roles, six token types, API identifier and first key."""
    environment = Environment.objects.create(
        vendor=vendor,
        name=name,
        slug=slug,
        token_prefix=token_prefix,
        colour=colour,
        signing_algorithm=signing_algorithm,
        created_at=at,
    )
    ApiIdentifier.objects.create(environment=environment, uri=audience, is_default=True)
    permissions = Permission.objects.bulk_create(
        Permission(
            environment=environment,
            key=key,
            description=description,
            is_built_in=True,
            for_tenant_tokens=key not in ENVIRONMENT_ONLY,
            for_personal_tokens=key not in ENVIRONMENT_ONLY and key not in SEES_NOBODYS,
        )
        for key, description in BUILT_IN.items()
    )
    roles = Role.objects.bulk_create(
        Role(environment=environment, key=key, name=role_name, level=level) for key, role_name, level, _ in ROLES
    )
    RolePermission.objects.bulk_create(
        RolePermission(role=role, permission=permission, environment=environment)
        for role, (*_, held) in zip(roles, ROLES, strict=True)
        for permission in permissions
        if permission.key in held
    )
    TokenType.objects.bulk_create(
        TokenType(environment=environment, owner=owner, kind=kind, **born_with(owner))
        for owner in Owner
        for kind in Kind
    )
    keyring.create_first_key(environment, at=at)
    record(
        actor=actor,
        verb="environment.created",
        target_kind="environment",
        target_id=environment.id,
        environment_id=environment.id,
        tenant_id=None,
        after={"name": name, "slug": slug, "token_prefix": token_prefix, "colour": str(colour), "audience": audience},
    )
    return environment


def born_with(owner: str) -> dict[str, Any]:
    """The settings of a new environment's token types, for tokens of that owner."""
    by_model = TokenType(owner=owner)
    names = (
        "is_enabled", "carries_all_roles", "longest_lifetime", "may_never_expire", "jwt_lifetime", "longest_overlap",
        "requires_ip_allowlist", "quota",
    )  # fmt: skip
    return {
        **{name: getattr(by_model, name) for name in names},
        "default_lifetime": None if owner == Owner.ENVIRONMENT else 90 * DAY,
        "accepts_basic": owner == Owner.ENVIRONMENT,
        "may_make_tokens": owner == Owner.ENVIRONMENT,
    }


def hold(role: Role, keys: Iterable[str]) -> None:
    """Let the role hold permissions of its environment, by key."""
    permissions = Permission.objects.filter(environment=role.environment_id, key__in=keys)
    RolePermission.objects.bulk_create(
        RolePermission(role=role, permission=permission, environment_id=role.environment_id)
        for permission in permissions
    )


def give_role(membership: Membership, role: Role) -> None:
    MembershipRole.objects.create(
        membership=membership,
        role=role,
        tenant_id=membership.tenant_id,
        environment_id=membership.environment_id,
        role_scope_id=role.scope_id,
    )


@transaction.atomic
def create_tenant(*, actor: Actor, environment: Environment, name: str, slug: str, external_id: str | None) -> Tenant:
    tenant = Tenant.objects.create(environment=environment, name=name, slug=slug, external_id=external_id)
    record(
        actor=actor,
        verb="tenant.created",
        target_kind="tenant",
        target_id=tenant.id,
        environment_id=environment.id,
        tenant_id=tenant.id,
        after={"name": name, "slug": slug, "external_id": external_id},
    )
    return tenant
