"""What a token may do: the ceiling when it is granted (R3) and the ceiling when it is used (R4, R5).

Plain values in, plain values out. `Standing` is everything about one token that the rules look at, as read in one
query (`with_standing`); the token endpoint, the API's authenticator and the pages all ask the same functions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

from audit.services import Refusal
from tenants.policy import Grantor, HeldRole

if TYPE_CHECKING:
    from apitokens.models import ApiToken
    from tenants.models import Tenant


# Where `role_rows` says whether a permission may be granted to tokens of that owner at all.
GRANTABLE_COLUMN = {"environment": 4, "tenant": 5, "user": 6}


class State(StrEnum):
    """Why a token works or does not; the first reason that holds, from the outside in."""

    USABLE = "usable"
    ENVIRONMENT_SUSPENDED = "environment_suspended"
    TENANT_SUSPENDED = "tenant_suspended"
    TYPE_DISABLED = "type_disabled"
    OWNER_SUSPENDED = "owner_suspended"
    OWNER_LEFT = "owner_left"
    DISABLED = "disabled"
    NOT_YET = "not_yet"
    EXPIRED = "expired"
    NO_AUDIENCE = "no_audience"
    POWERLESS = "powerless"


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One token's grant beside what its roles and, if it is personal, its owner hold now.

    `grantable` is what of its roles a token of this owner may have at all; `followable` what one that follows has.
    """

    granted_through: str
    granted: frozenset[str]
    grantor_level: int | None
    roles: tuple[HeldRole, ...]
    grantable: frozenset[str]
    holder: Grantor | None
    holder_roles: tuple[HeldRole, ...]
    followable: frozenset[str]

    @classmethod
    def of(cls, token: ApiToken) -> Standing:
        """From the annotations of `with_standing`; without them it is an AttributeError."""
        holder, holder_roles = _holder(token)
        return cls(
            granted_through=token.granted_through,
            granted=frozenset(token.granted),
            grantor_level=token.grantor_level,
            roles=_roles(token.role_rows),
            grantable=frozenset(row[3] for row in token.role_rows if row[GRANTABLE_COLUMN[token.owner]]),
            holder=holder,
            holder_roles=holder_roles,
            followable=_followable(token, holder),
        )


@dataclass(frozen=True, kw_only=True)
class Effective:
    """What a token may do now. `roles` are the keys of those that passed R4; none when the token was narrowed."""

    permissions: frozenset[str]
    roles: tuple[str, ...]
    level: int | None

    def narrowed(self, scopes: Collection[str]) -> Effective:
        """What is left under the scopes; without roles and level if that is less than everything."""
        permissions = self.permissions & frozenset(scopes)
        return self if permissions == self.permissions else self.without_roles(permissions)

    def without_roles(self, permissions: frozenset[str]) -> Effective:
        return Effective(permissions=permissions, roles=(), level=None)


def _followable(token: ApiToken, holder: Grantor | None) -> frozenset[str]:
    if holder is not None and holder.is_unlimited:
        return frozenset(row[0] for row in token.vendor_rows)
    return frozenset(row[3] for row in token.holder_rows if row[4])


def _roles(rows: Iterable[list[Any]]) -> tuple[HeldRole, ...]:
    found: dict[str, tuple[str, int, set[str]]] = {}
    for key, name, level, permission, *__ in rows:
        held = found.setdefault(key, (name, level, set()))[2]
        if permission is not None:
            held.add(permission)
    return tuple(
        HeldRole(key=key, name=name, level=level, permissions=frozenset(held))
        for key, (name, level, held) in sorted(found.items())
    )


def _holder(token: ApiToken) -> tuple[Grantor | None, tuple[HeldRole, ...]]:
    if token.membership_id is not None:
        roles = _roles(token.holder_rows)
        return grantor_with(roles), roles
    if (member := token.vendor_membership) is not None:
        covers = member.in_all_environments or token.vendor_membership_is_listed
        may_grant = covers and member.role in {"owner", "admin"}
        return Grantor(level=None, permissions=frozenset(), is_unlimited=may_grant), ()
    return None, ()


def grantor_with(roles: Collection[HeldRole]) -> Grantor:
    """Somebody who holds these roles and nothing else."""
    return Grantor(
        level=max((role.level for role in roles), default=None),
        permissions=frozenset().union(*(role.permissions for role in roles)),
    )


def effective_permissions(standing: Standing) -> Effective:
    """granted ∩ what its roles hold now (if through roles) ∩ what its owner holds now (if personal) (R4)."""
    if standing.granted_through == "owner":
        return Effective(
            permissions=standing.followable,
            roles=tuple(role.key for role in standing.holder_roles),
            level=standing.holder.level if standing.holder else None,
        )
    permissions, holder = standing.granted, standing.holder
    roles: tuple[HeldRole, ...] = ()
    if standing.granted_through == "roles":
        roles = tuple(role for role in standing.roles if _level_still_allowed(role, standing.grantor_level))
        permissions &= grantor_with(roles).permissions
    if holder is not None and not holder.is_unlimited:
        permissions &= holder.permissions
        roles = tuple(role for role in roles if holder.level is not None and role.level <= holder.level)
    # Whoever reads "admin" in the claim takes it for all that an admin may do: a role that the token has in part only
    # is not claimed, and lends no level.
    whole = tuple(role for role in roles if permissions and role.permissions & standing.grantable <= permissions)
    return Effective(permissions=permissions, roles=tuple(role.key for role in whole), level=grantor_with(whole).level)


def _level_still_allowed(role: HeldRole, grantor_level: int | None) -> bool:
    return grantor_level is None or role.level <= grantor_level


class Layer(StrEnum):
    """Which of the rules decided on a permission of a token; all but the first say no."""

    GRANTED = "granted"
    UNKNOWN_PERMISSION = "unknown_permission"
    NOT_FOR_THIS_OWNER = "not_for_this_owner"
    NEVER_GRANTED = "never_granted"
    LEFT_OUT = "left_out"
    NOT_TAKEN_OVER = "not_taken_over"
    ROLE_LOST_IT = "role_lost_it"
    ROLE_ABOVE_GRANTOR = "role_above_grantor"
    OWNER_LACKS_IT = "owner_lacks_it"
    TOKEN_NOT_USABLE = "token_not_usable"  # noqa: S105 -- the name of a layer


def explain(
    standing: Standing,
    permission: str,
    *,
    known: Mapping[str, bool] | None = None,
    gained: Collection[str] = frozenset(),
) -> Layer:
    """The layer that decides on the permission now; GRANTED exactly when it is among `effective_permissions`.

    `known` has each permission of the environment with whether tokens of this owner may be granted it; `gained` is what
    the token's roles have got since it was granted, which a standing can't tell from what was left out.
    """
    carriers = [role for role in standing.roles if permission in role.permissions]
    if permission in effective_permissions(standing).permissions:
        return Layer.GRANTED
    if known is not None and permission not in known:
        return Layer.UNKNOWN_PERMISSION
    if permission not in standing.granted and known is not None and not known[permission]:
        return Layer.NOT_FOR_THIS_OWNER
    if standing.granted_through == "owner":
        return Layer.OWNER_LACKS_IT
    if permission not in standing.granted:
        if not carriers:
            return Layer.NEVER_GRANTED
        return Layer.NOT_TAKEN_OVER if permission in gained else Layer.LEFT_OUT
    if standing.granted_through == "roles" and not carriers:
        return Layer.ROLE_LOST_IT
    if standing.granted_through == "roles" and not any(
        _level_still_allowed(role, standing.grantor_level) for role in carriers
    ):
        return Layer.ROLE_ABOVE_GRANTOR
    return Layer.OWNER_LACKS_IT


def state(token: ApiToken, now: Effective, *, at: datetime) -> State:
    """Whether the token works, and if not, why (R5): computed at each use, never stored, so nothing needs a sweep."""
    environment, tenant, member = token.environment, token.tenant, token.membership or token.vendor_membership
    if environment.suspended_at or environment.deleted_at:
        return State.ENVIRONMENT_SUSPENDED
    if tenant and (tenant.suspended_at or tenant.deleted_at):
        return State.TENANT_SUSPENDED
    if not token.token_type.is_enabled:
        return State.TYPE_DISABLED
    if member and member.ended_at:
        return State.OWNER_LEFT
    if member and (member.suspended_at or not member.user.is_active):
        return State.OWNER_SUSPENDED
    if token.disabled_at:
        return State.DISABLED
    if token.not_before and at < token.not_before:
        return State.NOT_YET
    if token.expires_at and token.expires_at <= at:
        return State.EXPIRED
    if not audiences_now(token).allowed:
        return State.NO_AUDIENCE
    if not now.permissions:
        return State.POWERLESS
    return State.USABLE


@dataclass(frozen=True, kw_only=True)
class Audiences:
    """What the JWTs of a token may be meant for (`aud`): `default` without `resource`, else any of `allowed`.

    `own` are those of them by which our own API is meant: the environment's default identifier and its issuer.
    """

    default: tuple[str, ...]
    allowed: frozenset[str]
    own: frozenset[str]

    def narrowed(self, named: Collection[str]) -> Audiences:
        """Those of them that a JWT names."""
        allowed = self.allowed & frozenset(named)
        return Audiences(default=tuple(sorted(allowed)), allowed=allowed, own=self.own & allowed)


def audiences_now(token: ApiToken) -> Audiences:
    """From the annotations of `with_standing`: what it is held to, if anything, as far as that exists still (R4)."""
    issuer = token.environment.issuer
    own = {uri for uri, is_default in token.audience_rows if is_default}
    allowed = frozenset({uri for uri, _ in token.audience_rows} | {issuer})
    if token.audiences:
        allowed &= frozenset(token.audiences)
    default = own & allowed or (allowed if token.audiences else {issuer})
    return Audiences(default=tuple(sorted(default)), allowed=allowed, own=frozenset(own | {issuer}) & allowed)


class Beyond(StrEnum):
    """In what a token is out of policy: which limit of its type it would not pass today."""

    LIFETIME = "lifetime"
    NEVER_EXPIRES = "never_expires"
    NO_IP_ALLOWLIST = "no_ip_allowlist"
    ROLE = "role"


def beyond_type(token: ApiToken, *, at: datetime) -> tuple[Beyond, ...]:
    """The limits of its type, as they are now, that an existing token is beyond (read `with_suspicions`).

    Limits bind what is made or changed; what was made before stays as it is until the vendor caps or disables it.
    The same in SQL: `out_of_policy`.
    """
    token_type, expires_at = token.token_type, token.expires_at
    if expires_at is not None and expires_at <= at:
        return ()
    longest = token_type.longest_lifetime
    checks = {
        Beyond.LIFETIME: expires_at is not None
        and longest is not None
        and expires_at - at > timedelta(seconds=longest),
        Beyond.NEVER_EXPIRES: expires_at is None and not token_type.may_never_expire,
        Beyond.NO_IP_ALLOWLIST: token_type.requires_ip_allowlist and not token.ip_allowlist,
        Beyond.ROLE: token.has_uncarried_role,
    }
    return tuple(beyond for beyond, is_so in checks.items() if is_so)


def generation(token: ApiToken, tenant: Tenant | None) -> int:
    """The `gen` of a JWT for that tenant: the sum over the rows that R5 looks at.

    Each only ever grows, and grows when its row is suspended or its JWTs are ended: so an older JWT stays dead, also
    after the row is reinstated.
    """
    above = [token.environment, token.token_type, token, tenant, token.membership, token.vendor_membership]
    return sum(row.generation for row in above if row is not None)


class RoleNotCarried(Refusal):
    """The vendor's token type does not let a token of this owner and kind carry the role."""

    code = "role_not_allowed"
    field = "roles"

    def __init__(self, role: HeldRole) -> None:
        super().__init__(_("The role %(name)s can't be given to a token of this owner and kind.") % {"name": role.name})
        self.role = role.key
