"""Roles: the vendor's for all tenants of an environment, or one tenant's own.

Making or changing a role is granting (R3): the grantor covers it before and after. Locks are taken in one order: the
tenant's row (for its own roles), the environment's, exclusively, so that nobody grants meanwhile; the grantor; the
roles by id; tokens. What a role loses, its tokens lose at that moment; what it gains, none of them has (R4).
"""

import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils.text import slugify
from django.utils.translation import gettext as _

from apitokens import ceiling
from apitokens.changing import Taken, changing, check_version, record_change, version_of
from apitokens.governance.impact import Impact, Then, impact_of, nothing
from apitokens.governance.in_use import InUse, TooMany
from apitokens.governance.members import LastOwner, keepers
from apitokens.models import ApiToken, ApiTokenRole, TokenTypeRole
from apitokens.orders import InvalidField, clean_name
from apitokens.principals import Principal
from apitokens.querysets import ApiTokenQuerySet
from apitokens.services import Gone
from audit.services import Change, Detail, record_each
from audit.words import grouped, listed
from tenants.models import (
    LEVEL_MAX,
    ROLE_KEY,
    IdentityProviderRole,
    Invitation,
    InvitationRole,
    Membership,
    MembershipRole,
    Permission,
    Role,
    RolePermission,
    Tenant,
)
from tenants.policy import POWERLESS, Grantor, HeldRole, WidensOwnRole, check_holds, check_role_change, check_roles
from tenants.queries import held_roles, is_strict, lock

MOST_ROLES = 100
CHANGED_AT_ONCE = 50
KEY_MAX = 64
OWN = "own:"
# How PostgreSQL and SQLite name them in their errors.
NAME_TAKEN = ("role_name_unique",)
KEY_TAKEN = ("role_key_unique", "tenants_role.scope_id, tenants_role.key")


@dataclass(frozen=True, kw_only=True)
class RoleChange:
    """What is None stays. `permissions` are keys: all that the role shall hold."""

    name: str | None = None
    level: int | None = None
    permissions: Collection[str] | None = None


class OutOfScope(InvalidField):
    """A role that is not available everywhere where the one it replaces is."""

    code = "not_available"


def create(
    *,
    by: Principal,
    tenant: Tenant | None,
    key: str,
    name: str,
    level: int,
    permissions: Collection[str],
    at: datetime,
) -> Role:
    """A role of the vendor's, or with a tenant that tenant's own, whose key begins with `own:`.

    Without a key it is made from the name.
    """
    asked = {"name": name, "level": level, "permissions": sorted(permissions)}
    with _changing(by, "role.created", tenant, name=name, asked=asked):
        by, grantor = _hold(by, tenant, at)
        check_holds(grantor, "roles:create")
        role = Role(
            environment=by.environment,
            tenant=tenant,
            key=clean_key(key, name, tenant),
            name=clean_name(name),
            level=clean_level(level),
        )
        held = _permissions(role, permissions)
        after = HeldRole(
            key=role.key, name=role.name, level=role.level, permissions=frozenset(each.key for each in held)
        )
        strict = is_strict(by.environment)
        check_role_change(grantor, None, after, is_own=False, strict=strict)
        if Role.objects.filter(environment=by.environment, tenant=tenant).count() >= MOST_ROLES:
            raise too_many()
        role.save()
        _hold_permissions(role, held)
        _record(by, "role.created", role, after=snapshot(role, after))
    return role


def edit(
    *, by: Principal, role: Role, change: RoleChange, at: datetime, expected: str | list[str] | None = None
) -> Role:
    """`edit_many` of one."""
    return edit_many(by=by, changes={role.id: change}, at=at, expected={role.id: expected} if expected else {})[0]


def edit_many(
    *,
    by: Principal,
    changes: Mapping[UUID, RoleChange],
    at: datetime,
    expected: Mapping[UUID, str | list[str]] = {},
    then: Then = nothing,
) -> list[Role]:
    """Change several roles of one place, all or none, in one transaction.

    Raises Stale for one that is no longer as it was seen, InvalidField, Taken, and the ceiling's refusals.
    """
    rows = _found(by, changes)
    tenant = rows[0].tenant
    only = rows[0] if len(rows) == 1 else None
    names = ", ".join(change.name for change in changes.values() if change.name)
    asked = {"name": ", ".join(row.name for row in rows)}
    with _changing(by, "role.edited", tenant, only, name=names, asked=asked):
        by, grantor = _hold(by, tenant, at)
        check_holds(grantor, "roles:create")
        kept = _keepers_level(tenant, grantor)
        roles = _locked(row.id for row in rows)
        held, own = held_roles(roles), _own_roles(by)
        for role in roles:
            check_version(expected.get(role.id), snapshot(role, held[role.id]))
            try:
                after = _apply(role, held[role.id], changes[role.id])
            except InvalidField as error:
                raise (
                    error
                    if only
                    else InvalidField(error.field, _("%(name)s: %(error)s") % {"name": role.name, "error": error})
                ) from error
            strict = role.environment.strict_ceiling
            check_role_change(grantor, held[role.id], after, is_own=role.id in own, strict=strict)
            if after != held[role.id]:
                before = snapshot(role, held[role.id])
                _record(by, "role.edited", role, before=before, after=snapshot(role, after))
        _check_kept(tenant, kept)
        then()
    return roles


def preview(
    *, by: Principal, changes: Mapping[UUID, RoleChange], at: datetime, expected: Mapping[UUID, str | list[str]] = {}
) -> Impact:
    """What `edit_many` would take from whom, of the tokens that have one of the roles or whose owner has."""
    _found(by, changes)
    return impact_of(
        tokens_touched(changes),
        lambda then: edit_many(by=by, changes=changes, at=at, expected=expected, then=then),
        by=by,
        permission="roles:create",
        members=_members(changes).count,
    )


def delete(
    *,
    by: Principal,
    role: Role,
    at: datetime,
    replacement: Role | None = None,
    force: bool = False,
    expected: str | list[str] | None = None,
    then: Then = nothing,
) -> None:
    """End a role. In use, it is refused (InUse) unless another takes its place or, forced, everybody just loses it.

    A replacement is granted to all who had the role, so it passes the ceiling; but a token keeps the permissions it
    was granted, and has of them what the replacement holds.
    """
    tenant = role.tenant
    with _changing(by, "role.deleted", tenant, role, asked={"name": role.name}):
        check_scope(by, tenant)
        by, grantor = _hold(by, tenant, at)
        check_holds(grantor, "roles:delete")
        kept = _keepers_level(tenant, grantor)
        roles = _locked({role.id} | ({replacement.id} if replacement else set()))
        role = _the(role.id, roles)
        held = held_roles(roles)
        check_version(expected, snapshot(role, held[role.id]))
        strict = role.environment.strict_ceiling
        check_roles(grantor, [held[role.id]], strict=strict)
        usage = usage_of(role, at=at)
        if replacement is not None:
            replacement = _the(replacement.id, roles)
            _check_replacement(by, grantor, role, replacement, held)
        elif any(usage.values()) and not force:
            text = _("The role %(name)s is in use by %(usage)s. Choose what takes its place, or let them all lose it.")
            raise InUse(text, role.name, usage)
        before = {**snapshot(role, held[role.id]), "usage": usage}
        after = {"replacement": replacement.key if replacement else None}
        _tell_tokens(by, role, replacement)
        if replacement is not None:
            _hand_over(role, replacement)
        _record(by, "role.deleted", role, before=before, after=after)
        role.delete()
        _check_kept(tenant, kept)
        then()


def preview_delete(
    *, by: Principal, role: Role, at: datetime, replacement: Role | None = None, expected: str | list[str] | None = None
) -> Impact:
    """What deleting it would take from whom, forced or with a replacement."""
    return impact_of(
        tokens_touched([role.id]),
        lambda then: delete(
            by=by,
            role=role,
            at=at,
            replacement=replacement,
            force=replacement is None,
            expected=expected,
            then=then,
        ),
        by=by,
        permission="roles:delete",
        members=_members([role.id]).count,
    )


def usage_of(role: Role, *, at: datetime, tenant: Tenant | None = None) -> dict[str, int]:
    """How many of each kind have it: members who have not left, tokens, open invitations, what newcomers
    by single sign-on get, token types' lists.

    With a tenant only what is in it is counted: how many customers a vendor has is no customer's to know.
    """
    open_ones = Invitation.objects.filter(accepted_at__isnull=True, expires_at__gt=at)
    members = _members([role.id])
    tokens = ApiToken.objects.filter(token_roles__role=role)
    invitations = InvitationRole.objects.filter(role=role, invitation__in=open_ones)
    sign_ons = IdentityProviderRole.objects.filter(role=role)
    if tenant is not None:
        members, tokens = members.filter(tenant=tenant), tokens.filter(tenant=tenant)
        invitations, sign_ons = invitations.filter(tenant=tenant), sign_ons.filter(tenant=tenant)
    return {
        "members": members.count(),
        "tokens": tokens.count(),
        "invitations": invitations.count(),
        "sign_ons": sign_ons.count(),
        "token_types": TokenTypeRole.objects.filter(role=role).count(),
        "new_tenants": int(role.is_for_new_tenants),
    }


def snapshot(role: Role, held: HeldRole | None = None) -> dict[str, object]:
    """The role as the record and the version know it; `held` spares a query."""
    held = held or held_roles([role])[role.id]
    return {"key": role.key, "name": held.name, "level": held.level, "permissions": sorted(held.permissions)}


def version(role: Role, held: HeldRole | None = None) -> str:
    return version_of(snapshot(role, held))


def check_scope(by: Principal, tenant: Tenant | None) -> None:
    """The vendor's roles are for whoever acts for the whole environment, a tenant's own also for those in it (R2)."""
    if tenant is None or by.tenant is None:
        ceiling.check_environment_wide(by, by.environment)
    if tenant is not None and (tenant.environment_id != by.environment.id or by.tenant not in {None, tenant}):
        raise ceiling.OutOfReach


def tokens_touched(role_ids: Collection[UUID]) -> ApiTokenQuerySet:
    """The tokens that have one of the roles, and the personal ones of members who do."""
    having = ApiTokenRole.objects.filter(role__in=role_ids).values("token")
    holders = MembershipRole.objects.filter(role__in=role_ids).values("membership")
    found: ApiTokenQuerySet = ApiToken.objects.filter(Q(pk__in=having) | Q(membership__in=holders))
    return found


def clean_key(key: str, name: str, tenant: Tenant | None) -> str:
    """As typed, or made from the name; a tenant's own begins with `own:`. Raises InvalidField."""
    bare = key.strip().removeprefix(OWN if tenant else "") or slugify(name)[:KEY_MAX].strip("-")
    if not bare:
        raise InvalidField("key", _("Give it a key: none can be made from this name."))
    full = f"{OWN}{bare}" if tenant else bare
    if not re.fullmatch(ROLE_KEY.strip("^$"), full) or (tenant is None and ":" in full):
        raise InvalidField(
            "key",
            _("A key has a-z, 0-9, dots, dashes and underscores, at most %(most)s, such as report-reader.")
            % {"most": KEY_MAX},
        )
    return full


def clean_level(level: int) -> int:
    if not 0 <= level <= LEVEL_MAX:
        raise InvalidField(
            "level",
            _("A level is a whole number from 0 to %(most)s; higher means more power.") % {"most": grouped(LEVEL_MAX)},
        )
    return level


def _changing(
    by: Principal, verb: str, tenant: Tenant | None, role: Role | None = None, *, name: str = "", asked: Detail
) -> AbstractContextManager[None]:
    return changing(
        by,
        verb,
        target_kind="role",
        target_id=role.id if role else None,
        tenant=tenant,
        asked=asked,
        unique={
            NAME_TAKEN: Taken(
                "name", _("There is a role of this name already: %(name)s.") % {"name": name.strip()[:200]}
            ),
            KEY_TAKEN: Taken("key", _("There is a role of this key already: choose another one.")),
        },
    )


def _record(by: Principal, verb: str, role: Role, *, before: Detail | None = None, after: Detail | None = None) -> None:
    record_change(by, verb, target_kind="role", target_id=role.id, tenant=role.tenant, before=before, after=after)


def _found(by: Principal, changes: Mapping[UUID, RoleChange]) -> list[Role]:
    """The roles that are to change; raises Gone and OutOfReach. They never move to another place."""
    if not changes:
        raise InvalidField("roles", _("Name the roles that shall change."))
    if len(changes) > CHANGED_AT_ONCE:
        raise InvalidField("roles", _("At most %(most)s roles can be changed at once.") % {"most": CHANGED_AT_ONCE})
    rows = list(Role.objects.filter(pk__in=changes, environment=by.environment).select_related("tenant").order_by("pk"))
    if len(rows) < len(changes):
        raise Gone
    if len({row.tenant_id for row in rows}) > 1:
        raise InvalidField("roles", _("Change the vendor's roles and those of each tenant one after the other."))
    check_scope(by, rows[0].tenant)
    return rows


def _hold(by: Principal, tenant: Tenant | None, at: datetime) -> tuple[Principal, Grantor]:
    """The place, exclusively, and the grantor as they are now. Nobody grants in the environment until we are done."""
    check_scope(by, tenant)
    if tenant is not None:
        lock(tenant)
    # Before the environment: who makes a personal token holds the member, and then waits for the environment.
    ceiling.hold_member(by)
    lock(by.environment)
    return ceiling.grantor_of(by, at=at, tenant=tenant)


def _locked(ids: Iterable[UUID]) -> list[Role]:
    """The roles as they are once they are held exclusively, in the order of their ids; raises Gone."""
    wanted = sorted(set(ids))
    for pk in wanted:
        lock(Role(pk=pk))
    roles = list(Role.objects.filter(pk__in=wanted).select_related("environment", "tenant").order_by("pk"))
    if len(roles) < len(wanted):
        raise Gone
    return roles


def _the(pk: UUID, roles: list[Role]) -> Role:
    return next(role for role in roles if role.pk == pk)


def _own_roles(by: Principal) -> set[UUID]:
    """The roles that the one who asks holds: a person's, a token's, and of a personal token also its owner's."""
    as_member = MembershipRole.objects.filter(membership=by.member).values_list("role_id", flat=True)
    as_token = ApiTokenRole.objects.filter(token=by.token).values_list("role_id", flat=True)
    return {*as_member, *as_token}


def _apply(role: Role, before: HeldRole, change: RoleChange) -> HeldRole:
    """Write what changes, and say what the role is then."""
    if change.name is not None:
        role.name = clean_name(change.name)
    if change.level is not None:
        role.level = clean_level(change.level)
    keys = before.permissions
    if change.permissions is not None:
        wanted = _permissions(role, change.permissions)
        keys = frozenset(each.key for each in wanted)
        role.role_permissions.exclude(permission__key__in=keys).delete()
        _hold_permissions(role, [each for each in wanted if each.key not in before.permissions])
    role.save(update_fields=["name", "level"])
    return HeldRole(key=role.key, name=role.name, level=role.level, permissions=keys)


def _permissions(role: Role, keys: Collection[str]) -> list[Permission]:
    """The permissions of these keys in the role's environment; raises InvalidField naming the unknown."""
    found = list(Permission.objects.filter(environment=role.environment_id, key__in=set(keys)))
    if unknown := set(keys) - {each.key for each in found}:
        raise InvalidField(
            "permissions", _("Unknown permission: %(unknown)s.") % {"unknown": ", ".join(sorted(unknown))[:200]}
        )
    return found


def _hold_permissions(role: Role, permissions: Iterable[Permission]) -> None:
    RolePermission.objects.bulk_create(
        RolePermission(role=role, permission=permission, environment_id=role.environment_id)
        for permission in permissions
    )


def _members(role_ids: Collection[UUID]) -> QuerySet[Membership]:
    having = MembershipRole.objects.filter(role__in=role_ids).values("membership")
    return Membership.objects.filter(pk__in=having, ended_at__isnull=True)


def too_many() -> TooMany:
    return TooMany(_("There are %(most)s roles, as many as there can be: delete one first.") % {"most": MOST_ROLES})


def _check_replacement(
    by: Principal, grantor: Grantor, role: Role, replacement: Role, held: Mapping[UUID, HeldRole]
) -> None:
    """Giving it to everybody who had the other is granting; whoever is among them gains nothing by it."""
    if replacement.pk == role.pk:
        raise InvalidField("replacement", _("A role can't take its own place: choose another one."))
    elsewhere = replacement.environment_id != role.environment_id or replacement.tenant_id not in {None, role.tenant_id}
    if elsewhere:
        raise OutOfScope(
            "replacement", _("The role %(name)s is not available wherever this one is.") % {"name": replacement.name}
        )
    check_holds(grantor, "roles:create")
    check_roles(grantor, [held[replacement.id]], strict=role.environment.strict_ceiling)
    gained = held[replacement.id].permissions - grantor.permissions
    if not grantor.is_unlimited and gained and role.id in _own_roles(by):
        raise WidensOwnRole(
            held[role.id],
            "replacement",
            _("its replacement would give you %(gained)s.") % {"gained": listed(sorted(gained))},
        )


def _hand_over(role: Role, replacement: Role) -> None:
    """Every row that named the one names the other, unless its holder has that already."""
    for rows, holder in (
        (MembershipRole.objects.filter(role=role), "membership"),
        (InvitationRole.objects.filter(role=role), "invitation"),
        (IdentityProviderRole.objects.filter(role=role), "provider"),
        (ApiTokenRole.objects.filter(role=role), "token"),
    ):
        has = rows.model._default_manager.filter(**{holder: OuterRef(holder)}, role=replacement)
        rows.filter(~Exists(has)).update(role=replacement, role_scope_id=replacement.scope_id)
    listed = TokenTypeRole.objects.filter(token_type=OuterRef("token_type"), role=replacement)
    TokenTypeRole.objects.filter(~Exists(listed), role=role).update(role=replacement)
    if role.is_for_new_tenants:
        Role.objects.filter(pk=role.pk).update(is_for_new_tenants=False)
        Role.objects.filter(pk=replacement.pk).update(is_for_new_tenants=True)


def _tell_tokens(by: Principal, role: Role, replacement: Role | None) -> None:
    """In the trail of each token that had it, where its page and `explain` look."""
    tokens = ApiToken.objects.filter(token_roles__role=role).prefetch_related("roles").order_by("pk")
    record_each(
        actor=by.actor,
        verb="apitoken.role_deleted",
        target_kind="apitoken",
        environment_id=by.environment.id,
        changes=(
            Change(
                target_id=token.id,
                tenant_id=token.tenant_id,
                before={"name": token.name, "roles": had},
                after={"name": token.name, "roles": has},
            )
            for token in tokens.iterator(chunk_size=500)
            for had in [sorted(each.key for each in token.roles.all())]
            for has in [sorted(({*had} - {role.key}) | ({replacement.key} if replacement else set()))]
        ),
    )


def _keepers_level(tenant: Tenant | None, grantor: Grantor) -> int | None:
    """The highest level among the active members who may manage members; None where that is the vendor's to say."""
    if tenant is None or grantor.is_unlimited:
        return None
    return max((level for _, level in keepers(tenant.pk)), default=None)


def _check_kept(tenant: Tenant | None, kept: int | None) -> None:
    """Raises LastOwner when a change of its own roles would leave the tenant with nobody who could undo it."""
    if tenant is None or kept is None:
        return
    now = _keepers_level(tenant, POWERLESS)
    if now is None or now < kept:
        raise LastOwner
