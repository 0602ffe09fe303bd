"""A whole vendor to try things on: two environments, two tenants each, a person per role, all six token types.

Every call makes another one, disjoint from those before. What it returns holds every plaintext, this once.
"""

import secrets
import string
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.db import transaction
from django.utils import timezone

from accounts.models import User
from apitokens import principals, services
from apitokens.models import Kind, Owner
from apitokens.orders import Expiry, Grant, Order
from apitokens.setup import create_environment, create_tenant, give_role, hold
from audit.actors import SYSTEM
from tenants.models import Environment, Membership, Permission, Role, Tenant, Vendor, VendorMembership

# The vendor's own API, beside the built-in permissions: which role holds what.
PERMISSIONS = {
    "reports:read": ("Read reports", {"viewer", "member", "admin", "owner", "backend"}),
    "reports:write": ("Write reports", {"member", "admin", "owner", "backend"}),
    "settings:manage": ("Change settings", {"admin", "owner", "backend"}),
    "billing:manage": ("Change the plan and see invoices", {"owner", "backend"}),
}
PEOPLE = ("viewer", "member", "admin", "owner")
TENANTS = ("Birch Bank", "Cedar Clinic")
COLOURS = {"Production": Environment.Colour.RED, "Staging": Environment.Colour.TEAL}


@transaction.atomic
def create() -> dict[str, Any]:
    """The demo as one JSON-ready object."""
    mark = "" if not Vendor.objects.exists() else "".join(secrets.choice(string.ascii_lowercase) for _ in range(5))
    end = f"-{mark}" if mark else ""
    vendor = Vendor.objects.create(name=f"Acorn Analytics {mark}".strip(), slug=f"acorn{end}")
    environments = [_environment(vendor, name, mark, end) for name in ("Production", "Staging")]
    tenants = [_tenant(environment, name, end) for environment in environments for name in TENANTS]
    users, vendor_users = _people(vendor, tenants)
    return {
        "vendor": {"id": str(vendor.id), "name": vendor.name, "slug": vendor.slug},
        "environments": [
            {
                "id": str(environment.id),
                "name": environment.name,
                "slug": environment.slug,
                "issuer": environment.issuer,
                "audience": environment.api_identifiers.get().uri,
            }
            for environment in environments
        ],
        "tenants": [
            {
                "id": str(tenant.id),
                "slug": tenant.slug,
                "name": tenant.name,
                "external_id": tenant.external_id,
                "environment": str(tenant.environment_id),
            }
            for tenant in tenants
        ],
        "users": users,
        "vendor_users": vendor_users,
        "roles": [_described(role) for environment in environments for role in environment.roles.order_by("level")],
        "environment_tokens": [_environment_tokens(environment) for environment in environments],
        "paths": _paths(),
    }


def _environment(vendor: Vendor, name: str, mark: str, end: str) -> Environment:
    slug = name.lower()
    environment = create_environment(
        actor=SYSTEM,
        vendor=vendor,
        name=name,
        slug=f"acorn{end}-{slug}",
        token_prefix=f"acorn{mark}_{slug}",
        audience=f"https://api.{slug}.acorn{end}.example",
        colour=COLOURS[name],
        at=timezone.now(),
    )
    Permission.objects.bulk_create(
        Permission(environment=environment, key=key, description=description)
        for key, (description, _) in PERMISSIONS.items()
    )
    for role in environment.roles.all():
        hold(role, [key for key, (_, roles) in PERMISSIONS.items() if role.key in roles])
    return environment


def _tenant(environment: Environment, name: str, end: str) -> Tenant:
    word = name.split()[0].lower()
    stage = "" if environment.name == "Production" else "-staging"
    tenant = create_tenant(
        actor=SYSTEM, environment=environment, name=name, slug=f"{word}{stage}{end}", external_id=f"{word}-001"
    )
    own = Role.objects.create(
        environment=environment, tenant=tenant, key="own:reporting", name="Reporting only", level=5
    )
    hold(own, ["reports:read"])
    return tenant


def _people(vendor: Vendor, tenants: list[Tenant]) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """A person per role in every tenant, one who belongs to two tenants, and the vendor's owner."""
    seats = [(f"{role}@{tenant.slug}.example", role.title(), [(tenant, role)]) for tenant in tenants for role in PEOPLE]
    both = [(tenant, "member") for tenant in tenants[:2]]
    seats.append((f"consultant@{vendor.slug}.example", "Consultant", both))
    seats.append((f"owner@{vendor.slug}.example", "Vendor owner", []))
    passwords = [secrets.token_urlsafe(12) for _ in seats]
    # A password's hash is slow on purpose, and lets other threads run meanwhile.
    with ThreadPoolExecutor() as pool:
        hashes = list(pool.map(make_password, passwords))
    users, vendor_users = [], []
    for (email, name, roles), password, password_hash in zip(seats, passwords, hashes, strict=True):
        user = User.objects.create(email=email, name=name, password=password_hash)
        person = {"id": str(user.id), "email": email, "password": password}
        for tenant, key in roles:
            membership = Membership.objects.create(user=user, tenant=tenant, environment=tenant.environment)
            give_role(membership, Role.objects.get(environment=tenant.environment, tenant=None, key=key))
            users.append({**person, "tenant": str(tenant.id), "tenant_slug": tenant.slug, "role": key})
        if not roles:
            VendorMembership.objects.create(vendor=vendor, user=user, role=VendorMembership.Role.OWNER)
            vendor_users.append({**person, "role": "owner"})
    return users, vendor_users


def _described(role: Role) -> dict[str, object]:
    return {
        "id": str(role.id),
        "key": role.key,
        "level": role.level,
        "permissions": sorted(role.permissions.values_list("key", flat=True)),
        "environment": str(role.environment_id),
        "tenant": str(role.tenant_id) if role.tenant_id else None,
    }


def _environment_tokens(environment: Environment) -> dict[str, str]:
    made = {
        kind: services.issue(
            by=principals.system(environment),
            tenant=None,
            order=Order(
                owner=Owner.ENVIRONMENT,
                kind=kind,
                name=f"Backend ({kind.label.lower()})",
                grant=Grant(roles=("backend",)),
                expiry=Expiry(never=True),
            ),
            at=timezone.now(),
        )
        for kind in Kind
    }
    client = made[Kind.CLIENT_CREDENTIALS]
    return {
        "environment": str(environment.id),
        "access_token": made[Kind.ACCESS_TOKEN].secret(),
        "client_id": client.token.client_id,
        "client_secret": client.secret(),
    }


def _paths() -> dict[str, str]:
    return {
        "login": "/accounts/login/",
        "tokens": "/t/{tenant_slug}/tokens/",
        "token_endpoint": "/oauth2/token",
        "jwks": "/e/{environment_slug}/jwks.json",
        "metadata": "/e/{environment_slug}/.well-known/oauth-authorization-server",
        "api": "/api/v1/",
        "schema": "/api/schema/",
        "origin": settings.ORIGIN,
    }
