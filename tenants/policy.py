"""Who may hand out what: the role ceiling (R3), as one check on plain values.

`Grantor` says what the one who grants holds; `HeldRole` what a role would hand out. Nothing here asks a database, so
the rule reads as it stands; callers fetch both under locks (`tenants.queries`).
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from audit.services import Refusal
from audit.words import gettext as _
from audit.words import listed


@dataclass(frozen=True, kw_only=True)
class HeldRole:
    """A role as it stands now. `level` is 0 to 32,767, higher = more power."""

    key: str
    name: str
    level: int
    permissions: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Grantor:
    """`level` is the highest level among the grantor's roles; None without roles: then it grants permissions, no roles.

    `is_unlimited` is the vendor's owner or admin in their environments, and the system itself.
    """

    level: int | None
    permissions: frozenset[str]
    is_unlimited: bool = False

    def holds(self, permission: str) -> bool:
        return self.is_unlimited or permission in self.permissions


UNLIMITED = Grantor(level=None, permissions=frozenset(), is_unlimited=True)
POWERLESS = Grantor(level=None, permissions=frozenset())


class PermissionMissing(Refusal):
    """The one who asks lacks the permission that the act needs."""

    code = "insufficient_scope"

    def __init__(self, permission: str) -> None:
        super().__init__(_("This needs the permission %(permission)s.") % {"permission": permission})
        self.permission = permission


class RoleAboveCeiling(Refusal):
    """A role that the grantor may not hand out: holding what they lack (`missing`), or, if empty, for its level."""

    code = "role_above_ceiling"
    field = "roles"

    def __init__(self, role: HeldRole, because: str, missing: Collection[str] = ()) -> None:
        super().__init__(_("You can't grant the role %(name)s: %(because)s") % {"name": role.name, "because": because})
        self.role = role.key
        self.because = because
        self.missing = frozenset(missing)


class PermissionAboveCeiling(Refusal):
    """A permission picked directly that the grantor lacks."""

    code = "permission_above_ceiling"
    field = "permissions"

    def __init__(self, permissions: Collection[str]) -> None:
        self.permissions = sorted(permissions)
        super().__init__(
            _("You can't grant what you don't have: %(permissions)s.") % {"permissions": listed(self.permissions)}
        )


class WidensOwnRole(Refusal):
    """Nobody adds to a role of theirs what they don't have, nor raises it: that is granting to oneself."""

    code = "widens_own_role"

    def __init__(self, role: HeldRole, field: str, because: str) -> None:
        super().__init__(
            _("You hold the role %(name)s yourself: %(because)s") % {"name": role.name, "because": because}
        )
        self.field = field
        self.role = role.key


def why_not(grantor: Grantor, role: HeldRole, *, strict: bool) -> str:
    """The reason the grantor may not hand out the role, in words for people; empty if they may (R3)."""
    if grantor.is_unlimited:
        return ""
    if grantor.level is None:
        return _("whoever has no role themselves grants permissions, not roles.")
    if role.level > grantor.level:
        return _("its level %(level)s is above your own, %(own)s.") % {"level": role.level, "own": grantor.level}
    if strict and (missing := role.permissions - grantor.permissions):
        return _("it holds permissions that you lack: %(missing)s.") % {"missing": listed(sorted(missing))}
    return ""


def check_roles(grantor: Grantor, roles: Iterable[HeldRole], *, strict: bool) -> None:
    """Every role, not only the first; raises RoleAboveCeiling."""
    for role in roles:
        if because := why_not(grantor, role, strict=strict):
            is_above = why_not(grantor, role, strict=False)
            raise RoleAboveCeiling(role, because, () if is_above else role.permissions - grantor.permissions)


def check_permissions(grantor: Grantor, permissions: Collection[str]) -> None:
    """Permissions picked directly are always a subset of the grantor's; raises PermissionAboveCeiling."""
    if missing := [key for key in permissions if not grantor.holds(key)]:
        raise PermissionAboveCeiling(missing)


def check_holds(grantor: Grantor, permission: str) -> None:
    """Raises PermissionMissing."""
    if not grantor.holds(permission):
        raise PermissionMissing(permission)


def check_role_change(
    grantor: Grantor, before: HeldRole | None, after: HeldRole, *, is_own: bool, strict: bool
) -> None:
    """Making or changing a role is granting (R3): the grantor covers it before and after, and gives what they have.

    A permission written into a role is picked directly, so it is one of the grantor's also where the ceiling is not
    strict: else a role of the grantor's own making would hand out what no role of theirs holds. `is_own` is whether the
    grantor holds the role. Raises RoleAboveCeiling, WidensOwnRole or PermissionAboveCeiling.
    """
    check_roles(grantor, [role for role in (before, after) if role is not None], strict=strict)
    added = after.permissions - (before.permissions if before else frozenset())
    if is_own and before is not None and not grantor.is_unlimited:
        if after.level > before.level:
            raise WidensOwnRole(before, "level", _("its level can be raised by others only."))
        if missing := added - grantor.permissions:
            raise WidensOwnRole(
                before, "permissions", _("you can't add %(missing)s to it.") % {"missing": listed(sorted(missing))}
            )
    check_permissions(grantor, sorted(added))
