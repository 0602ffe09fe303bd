"""Reading what people and roles hold, and the locks under which a grant is decided (R3)."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.core.exceptions import EmptyResultSet
from django.db import connections
from django.db.models import Model, QuerySet

from tenants.models import Environment, Membership, Permission, Role, RolePermission, Tenant, VendorMembership
from tenants.policy import POWERLESS, UNLIMITED, Grantor, HeldRole


def lock_shared(rows: QuerySet[Any]) -> None:
    """Hold the rows against change until the transaction ends, but not against others who only read them.

    Rows are locked in the order of their ids, so that two transactions cannot wait for each other. SQLite has no row
    locks: there a write transaction is alone from its start (BEGIN IMMEDIATE).
    """
    connection = connections[rows.db]
    if connection.vendor != "postgresql":
        return
    # By a subquery, so that nothing but these rows is locked, however they were found.
    only = rows.model._default_manager.filter(pk__in=rows.order_by().values("pk"))
    try:
        sql, params = only.order_by("pk").values("pk").query.sql_with_params()
    except EmptyResultSet:  # Django sees that there is nothing to find
        return
    with connection.cursor() as cursor:
        cursor.execute(f"{sql} FOR SHARE", params)


def lock(row: Model) -> None:
    """Hold one row exclusively until the transaction ends; others may still refer to it."""
    list(type(row)._default_manager.select_for_update(no_key=True).filter(pk=row.pk).values_list("pk"))


def is_strict(environment: Environment) -> bool:
    """Whether the ceiling is strict at this moment; asked under the lock on the environment."""
    return Environment.objects.values_list("strict_ceiling", flat=True).get(pk=environment.pk)


def available_roles(environment: Environment, tenant: Tenant | None) -> QuerySet[Role]:
    """The vendor's roles and the tenant's own; for the environment itself the vendor's alone."""
    scopes = [environment.id] if tenant is None else [environment.id, tenant.id]
    return Role.objects.filter(environment=environment, scope_id__in=scopes)


def held_roles(roles: Iterable[Role]) -> dict[UUID, HeldRole]:
    """The roles with what they hold now, in one query, by id."""
    roles = list(roles)
    keys: dict[UUID, set[str]] = {role.id: set() for role in roles}
    rows = RolePermission.objects.filter(role__in=roles).values_list("role_id", "permission__key")
    for role_id, key in rows:
        keys[role_id].add(key)
    return {
        role.id: HeldRole(key=role.key, name=role.name, level=role.level, permissions=frozenset(keys[role.id]))
        for role in roles
    }


def grantor_of_membership(membership: Membership) -> Grantor:
    """What the membership's roles hold now, in one query; powerless once it is not active."""
    rows = list(
        Membership.objects.active()
        .filter(pk=membership.pk, roles__isnull=False)
        .values_list("roles__level", "roles__permissions__key")
    )
    if not rows:
        return POWERLESS
    return Grantor(level=max(level for level, _ in rows), permissions=frozenset(key for _, key in rows if key))


def built_in_permissions(environment: Environment, role: str) -> frozenset[str]:
    """What a person of the vendor holds at the doors of our own pages: an owner or admin all, an auditor to read."""
    keys = Permission.objects.filter(environment=environment, is_built_in=True).values_list("key", flat=True)
    return frozenset(key for key in keys if role != VendorMembership.Role.AUDITOR or key.endswith(":read"))


def grantor_of_vendor_membership(member: VendorMembership, environment: Environment) -> Grantor:
    """Owners and admins may grant anything of their environments; powerless once the membership is not active there."""
    now = VendorMembership.objects.active().covering(environment).filter(pk=member.pk).first()
    if now is None:
        return POWERLESS
    if now.role == VendorMembership.Role.AUDITOR:
        return Grantor(level=None, permissions=built_in_permissions(environment, now.role))
    return UNLIMITED
