"""Permissions of an environment: the vendor's own beside the built-in ones, which guard our pages and endpoints.

Only who acts for the whole environment changes them. Locks: the environment, exclusively, so that nobody grants
meanwhile; the grantor; the permission; tokens.
"""

import re
import unicodedata
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from datetime import datetime

from django.db.models import F, Q, Value
from django.utils.translation import gettext as _

from apitokens import ceiling
from apitokens.changing import Taken, changing, check_version, record_change, version_of
from apitokens.governance.impact import Impact, Then, impact_of, nothing
from apitokens.governance.in_use import InUse, TooMany
from apitokens.models import ApiToken
from apitokens.orders import InvalidField
from apitokens.principals import Principal
from apitokens.querysets import ApiTokenQuerySet, JSONArrayContains
from apitokens.services import Gone
from apitokens.setup import BUILT_IN
from audit.services import Change, Detail, Refusal, record_each
from tenants.models import SCOPE_TOKEN, Permission, Role, RolePermission, Tenant
from tenants.policy import Grantor, check_holds, check_permissions, check_roles
from tenants.queries import held_roles, is_strict, lock

MOST_PERMISSIONS = 500
DESCRIPTION_MAX = 255
STRIPPED_AT_ONCE = 500
KEY_TAKEN = ("permission_key_unique_in_environment", "tenants_permission.environment_id, tenants_permission.key")
BUILT_IN_FAMILIES = frozenset(key.partition(":")[0] for key in BUILT_IN)
OWNER_FLAGS = ("for_environment_tokens", "for_tenant_tokens", "for_personal_tokens")


@dataclass(frozen=True, kw_only=True)
class PermissionChange:
    """What is None stays. The key never changes: it is what resource servers compare."""

    description: str | None = None
    for_environment_tokens: bool | None = None
    for_tenant_tokens: bool | None = None
    for_personal_tokens: bool | None = None

    def given(self) -> dict[str, object]:
        return {each.name: value for each in fields(self) if (value := getattr(self, each.name)) is not None}


class BuiltIn(Refusal):
    """Our own pages and endpoints ask for it: it is the same in every environment."""

    code = "built_in"

    def __init__(self, permission: Permission) -> None:
        super().__init__(
            _("%(key)s is built in: it can be given to roles and taken from them, nothing else.")
            % {"key": permission.key}
        )


def create(
    *,
    by: Principal,
    key: str,
    description: str = "",
    for_environment_tokens: bool = True,
    for_tenant_tokens: bool = True,
    for_personal_tokens: bool = True,
    at: datetime,
) -> Permission:
    """A new permission, which nobody holds until it is given to a role."""
    with _changing(by, "permission.created", asked={"name": key}):
        by, grantor = _hold(by, at)
        check_holds(grantor, "permissions:create")
        if Permission.objects.filter(environment=by.environment).count() >= MOST_PERMISSIONS:
            raise too_many()
        permission = Permission.objects.create(
            environment=by.environment,
            key=clean_key(key),
            description=clean_description(description),
            for_environment_tokens=for_environment_tokens,
            for_tenant_tokens=for_tenant_tokens,
            for_personal_tokens=for_personal_tokens,
        )
        _record(by, "permission.created", permission, after=snapshot(permission))
    return permission


def edit(
    *,
    by: Principal,
    permission: Permission,
    change: PermissionChange,
    at: datetime,
    expected: str | list[str] | None = None,
) -> Permission:
    """Narrowing to which owners it may be granted binds new grants: what was granted stays.

    Tokens that follow their owner lose it, and have it from the moment on that it is widened, which is granting (R3).
    """
    with _changing(by, "permission.edited", permission, asked={"name": permission.key}):
        by, grantor = _hold(by, at)
        check_holds(grantor, "permissions:create")
        permission = _locked(permission)
        before = snapshot(permission)
        check_version(expected, before)
        given = change.given()
        if permission.is_built_in and any(before[name] != value for name, value in given.items()):
            raise BuiltIn(permission)
        if any(given.get(flag) and not before[flag] for flag in OWNER_FLAGS):
            check_permissions(grantor, [permission.key])
        if change.description is not None:
            given["description"] = clean_description(change.description)
        for name, value in given.items():
            setattr(permission, name, value)
        after = snapshot(permission)
        if after != before:
            permission.save()
            _record(by, "permission.edited", permission, before=before, after=after)
    return permission


def delete(
    *,
    by: Principal,
    permission: Permission,
    at: datetime,
    replacement: Permission | None = None,
    force: bool = False,
    expected: str | list[str] | None = None,
    then: Then = nothing,
) -> None:
    """End a permission. In use, it is refused (InUse) unless another takes its place in roles or, forced, none does.

    Either way the key goes from all that was granted: one that is made anew under it comes back to no token. A
    replacement is granted to the roles' members, and to no token, which has what was granted to it.
    """
    with _changing(by, "permission.deleted", permission, asked={"name": permission.key}):
        by, grantor = _hold(by, at)
        check_holds(grantor, "permissions:delete")
        permission = _locked(permission)
        before = snapshot(permission)
        check_version(expected, before)
        if permission.is_built_in:
            raise BuiltIn(permission)
        usage = usage_of(permission)
        if replacement is not None:
            replacement = _locked(replacement)
            _check_replacement(grantor, permission, replacement, strict=is_strict(by.environment))
        elif any(usage.values()) and not force:
            text = _("%(name)s is in use by %(usage)s. Choose what takes its place, or let them all lose it.")
            raise InUse(text, permission.key, usage)
        _strip(by, permission)
        if replacement is not None:
            rows = RolePermission.objects.filter(permission=permission)
            has = RolePermission.objects.filter(permission=replacement).values("role")
            rows.exclude(role__in=list(has.values_list("role", flat=True))).update(permission=replacement)
        after = {"replacement": replacement.key if replacement else None}
        _record(by, "permission.deleted", permission, before={**before, "usage": usage}, after=after)
        permission.delete()
        then()


def preview_delete(
    *,
    by: Principal,
    permission: Permission,
    at: datetime,
    replacement: Permission | None = None,
    expected: str | list[str] | None = None,
) -> Impact:
    """What deleting it would take from whom, forced or with a replacement."""
    return impact_of(
        tokens_touched(permission),
        lambda then: delete(
            by=by,
            permission=permission,
            at=at,
            replacement=replacement,
            force=replacement is None,
            expected=expected,
            then=then,
        ),
        by=by,
        permission="permissions:delete",
    )


def usage_of(permission: Permission, *, tenant: Tenant | None = None) -> dict[str, int]:
    """How many roles hold it, and to how many tokens it was granted; with a tenant only what is in it is counted."""
    roles, tokens = RolePermission.objects.filter(permission=permission), _granted(permission)
    if tenant is not None:
        roles = roles.filter(Q(role__tenant__isnull=True) | Q(role__tenant=tenant))
        tokens = tokens.filter(tenant=tenant)
    return {"roles": roles.count(), "tokens": tokens.count()}


def tokens_touched(permission: Permission) -> ApiTokenQuerySet:
    """The tokens that were granted it, and those that follow an owner who may have it."""
    holders = RolePermission.objects.filter(permission=permission).values("role__memberships")
    follows = Q(granted_through=ApiToken.GrantedThrough.OWNER)
    found: ApiTokenQuerySet = ApiToken.objects.filter(
        Q(pk__in=_granted(permission).values("pk"))
        | follows & (Q(membership__in=holders) | Q(vendor_membership__isnull=False)),
        environment=permission.environment_id,
    )
    return found


def snapshot(permission: Permission) -> dict[str, object]:
    """The permission as the record and the version know it."""
    return {
        "key": permission.key,
        "description": permission.description,
        **{flag: getattr(permission, flag) for flag in OWNER_FLAGS},
    }


def version(permission: Permission) -> str:
    return version_of(snapshot(permission))


def clean_key(key: str) -> str:
    """An RFC 6749 scope-token, of none of the built-in families; raises InvalidField."""
    key = key.strip()
    if not re.fullmatch(SCOPE_TOKEN.strip("^$"), key) or "*" in key:
        raise InvalidField(
            "key",
            _("A key has 1 to 128 printable ASCII characters, without spaces, quotes, backslashes and asterisks."),
        )
    family, colon, __ = key.partition(":")
    if family in BUILT_IN_FAMILIES:
        raise InvalidField(
            "key",
            _("Keys that begin with %(family)s%(colon)s are for built-in permissions: choose another beginning.")
            % {"family": family, "colon": colon},
        )
    return key


def too_many() -> TooMany:
    text = _("There are %(most)s permissions, as many as there can be: delete one first.")
    return TooMany(text % {"most": MOST_PERMISSIONS})


def clean_description(text: str) -> str:
    """One line of text; raises InvalidField."""
    description = unicodedata.normalize("NFC", text).strip()
    if len(description) > DESCRIPTION_MAX:
        raise InvalidField(
            "description", _("A description has at most %(most)s characters.") % {"most": DESCRIPTION_MAX}
        )
    if any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in description):
        raise InvalidField("description", _("A description is one line, without control characters."))
    return description


def _changing(
    by: Principal, verb: str, permission: Permission | None = None, *, asked: Detail
) -> AbstractContextManager[None]:
    taken: Mapping[tuple[str, ...], Refusal] = {
        KEY_TAKEN: Taken("key", _("There is a permission of this key already: choose another one."))
    }
    target = permission.id if permission else None
    return changing(by, verb, target_kind="permission", target_id=target, asked=asked, unique=taken)


def _record(
    by: Principal, verb: str, permission: Permission, *, before: Detail | None = None, after: Detail | None = None
) -> None:
    record_change(by, verb, target_kind="permission", target_id=permission.id, before=before, after=after)


def _hold(by: Principal, at: datetime) -> tuple[Principal, Grantor]:
    """The environment, exclusively, and the grantor as they are now."""
    ceiling.check_environment_wide(by, by.environment)
    lock(by.environment)
    return ceiling.grantor_of(by, at=at)


def _locked(permission: Permission) -> Permission:
    lock(permission)
    now = Permission.objects.filter(pk=permission.pk).first()
    if now is None:
        raise Gone
    return now


def _check_replacement(grantor: Grantor, permission: Permission, replacement: Permission, *, strict: bool) -> None:
    """It changes every role that holds the one: the grantor covers them before and after (R3)."""
    if replacement.pk == permission.pk:
        raise InvalidField("replacement", _("A permission can't take its own place: choose another one."))
    if replacement.environment_id != permission.environment_id:
        raise InvalidField("replacement", _("Unknown permission."))
    check_holds(grantor, "roles:create")
    check_permissions(grantor, [replacement.key])
    before = held_roles(Role.objects.filter(role_permissions__permission=permission)).values()
    after = [replace(role, permissions=role.permissions - {permission.key} | {replacement.key}) for role in before]
    check_roles(grantor, [*before, *after], strict=strict)


def _granted(permission: Permission) -> ApiTokenQuerySet:
    found: ApiTokenQuerySet = ApiToken.objects.alias(
        has=JSONArrayContains(F("granted"), Value(permission.key)),
    ).filter(has=True, environment=permission.environment_id)
    return found


def _strip(by: Principal, permission: Permission) -> None:
    """Take the key out of every grant, with a line in the trail of each token, where its page and `explain` look."""
    key = permission.key
    ids = list(_granted(permission).order_by("pk").values_list("pk", flat=True))
    for start in range(0, len(ids), STRIPPED_AT_ONCE):
        rows = ApiToken.objects.select_for_update(of=("self",), no_key=True)
        tokens = list(rows.filter(pk__in=ids[start : start + STRIPPED_AT_ONCE]).order_by("pk"))
        changes = []
        for token in tokens:
            had, token.granted = token.granted, [each for each in token.granted if each != key]
            before, after = {"name": token.name, "granted": had}, {"name": token.name, "granted": token.granted}
            changes.append(Change(target_id=token.id, tenant_id=token.tenant_id, before=before, after=after))
        ApiToken.objects.bulk_update(tokens, ["granted"])
        record_each(
            actor=by.actor,
            verb="apitoken.permission_deleted",
            target_kind="apitoken",
            environment_id=by.environment.id,
            changes=changes,
        )
