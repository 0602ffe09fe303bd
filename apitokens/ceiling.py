"""The ceiling under locks (R3): what somebody may hand out at this moment, and what a grant would fix.

Called inside the transaction that writes. Locks are taken in one order: the quota's owner (exclusive, by the
service), the environment (shared), the grantor (shared), the token type (shared), roles (shared), tokens. A demotion,
a role edit or a change of the type takes its row exclusively, so whichever comes second sees the other's result; what
is decided on is therefore read after the lock, never before.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Q
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from apitokens import policy
from apitokens.models import ApiToken, Kind, Owner, TokenType
from apitokens.orders import Expiry, Grant, InvalidField, Order, all_lie_within, clean_networks, in_days
from apitokens.principals import Principal
from apitokens.querysets import WITH_STANDING
from audit.services import Refusal
from audit.words import listed
from tenants.models import Environment, Membership, Permission, Role, Tenant, VendorMembership
from tenants.policy import POWERLESS, UNLIMITED, Grantor, HeldRole, check_permissions, check_roles
from tenants.queries import (
    available_roles,
    grantor_of_membership,
    grantor_of_vendor_membership,
    held_roles,
    lock_shared,
)

DEFAULT_OVERLAP = 24 * 3600
GRANTABLE = {
    Owner.ENVIRONMENT: "for_environment_tokens",
    Owner.TENANT: "for_tenant_tokens",
    Owner.USER: "for_personal_tokens",
}


class NotConfirmed(Exception):
    """The person showed who they are too long ago for this. Not a refusal: they are asked, and then it is done.

    So no form takes it for an error of its own: whoever opened the door for them asks.
    """

    code = "reauthentication_required"

    def __init__(self) -> None:
        super().__init__("Confirm that it is you: you last did so too long ago for this.")


def is_confirmed(by: Principal, *, at: datetime) -> bool:
    """Whether they showed who they are as recently as the environment asks of people; of others nothing is asked."""
    limit = by.environment.reauthenticate_after
    if by.person_id is None or not limit:
        return True
    return by.proven_at is not None and at - by.proven_at <= timedelta(seconds=limit)


def check_confirmed(by: Principal, *, at: datetime) -> None:
    """Asked before a secret is made or ended; raises NotConfirmed."""
    if not is_confirmed(by, at=at):
        raise NotConfirmed


@dataclass(frozen=True, kw_only=True)
class Decided:
    through: str
    granted: frozenset[str]
    roles: tuple[Role, ...] = ()


class TokenTypeDisabled(InvalidField):
    """The vendor has switched this owner and kind off."""

    code = "token_type_disabled"
    is_denial = True

    def __init__(self, owner: str, kind: str) -> None:
        super().__init__(
            "kind",
            _("Tokens of the kind %(kind)s with the owner %(owner)s are switched off here.")
            % {"kind": kind, "owner": owner},
        )


class QuotaReached(Refusal):
    code = "quota_reached"

    def __init__(self, quota: int) -> None:
        text = ngettext(
            "You have %(count)s such token, as many as are allowed: delete it first.",
            "You have %(count)s such tokens, as many as are allowed: delete one first.",
            quota,
        )
        super().__init__(text % {"count": quota})


class MayNotMakeTokens(Refusal):
    """R13: a token makes tokens only if its type says so."""

    code = "token_makes_no_tokens"

    def __init__(self) -> None:
        super().__init__(
            _("A token of this type can't make, change or extend tokens: sign in, or use an environment's.")
        )


class OutOfReach(Refusal):
    """What acts in one tenant, by a membership, a token or a JWT bound to it, does nothing outside of it (R2)."""

    code = "out_of_reach"

    def __init__(self, text: str = "") -> None:
        super().__init__(text or _("This credential acts in one tenant and can't reach beyond it."))


class Deleted(Refusal):
    """It is on hold before it is erased: the one thing left to do with it is to restore it."""

    code = "deleted"
    is_denial = False

    def __init__(self, name: str) -> None:
        super().__init__(_("%(name)s is deleted. Restore it first, or leave it to be erased.") % {"name": name})


class NotItsOwner(Refusal):
    """A personal token is its owner's: others may look at it and stop it, no more (R3)."""

    code = "not_its_owner"

    def __init__(self) -> None:
        super().__init__(_("Only its owner can make, change or enable a personal token, or be shown its secret."))


class WiderThanCaller(Refusal):
    """R13: a token would hand out one that expires later than itself, or that more networks may use."""

    code = "wider_than_caller"

    def __init__(self) -> None:
        super().__init__(
            _("A token can't hand out one that outlives it, or that can be used from more networks or for more APIs.")
        )


class WiderThanParent(Refusal):
    """R13 holds for as long as the token that made it is there, whoever asks."""

    code = "wider_than_parent"
    is_denial = False

    def __init__(self) -> None:
        super().__init__(_("The token that made it has narrower limits by now: bring this one within them first."))


class OutOfPolicy(Refusal):
    """To let a token work again is granting, and today's limits bind what is granted."""

    code = "out_of_policy"

    def __init__(self) -> None:
        super().__init__(
            _("This token is beyond the limits that its type has now. Bring it within them first, or make a new one.")
        )


def token_type_of(environment: Environment, order: Order) -> TokenType:
    """The cell of the order as it is at this moment, under a shared lock: a change of it that came first is seen."""
    if order.owner not in Owner.values:
        raise InvalidField("owner", _("Owner is one of %(values)s.") % {"values": listed(Owner.values)})
    if order.kind not in Kind.values:
        raise InvalidField("kind", _("Kind is one of %(values)s.") % {"values": listed(Kind.values)})
    found = TokenType.objects.filter(environment=environment, owner=order.owner, kind=order.kind)
    lock_shared(found)
    token_type = found.select_related("environment").first()
    if token_type is None:
        raise TokenTypeDisabled(order.owner, order.kind)
    check_enabled(token_type)
    return token_type


def check_reach(by: Principal, environment: Environment, tenant: Tenant | None, *, owner: str) -> None:
    """Raises OutOfReach; also for an environment's token in a tenant, or another one in none (R2)."""
    is_elsewhere = by.environment != environment or (by.tenant is not None and by.tenant != tenant)
    if is_elsewhere or (owner == Owner.ENVIRONMENT) != (tenant is None):
        raise OutOfReach


def check_enabled(token_type: TokenType) -> None:
    """Raises TokenTypeDisabled."""
    if not token_type.is_enabled:
        raise TokenTypeDisabled(token_type.owner, token_type.kind)


def check_within_type(grantor: Grantor, token: ApiToken, *, at: datetime) -> None:
    """Raises OutOfPolicy; the vendor, whose limits they are, may make exceptions."""
    if not grantor.is_unlimited and ApiToken.objects.filter(pk=token.pk).out_of_policy(at=at).exists():
        raise OutOfPolicy


def check_still_member(membership: Membership) -> None:
    """Asked under the lock on the membership: it may have been suspended since it was found; raises InvalidField."""
    if not Membership.objects.active().filter(pk=membership.pk).exists():
        raise InvalidField("user", _("This person is not an active member of the tenant."))


def grantor_of(
    by: Principal, *, at: datetime, tenant: Tenant | None = None, even_if_deleted: bool = False
) -> tuple[Principal, Grantor]:
    """The one who asks, as they are at this moment under shared locks on them and their roles; and what they hold.

    `tenant` is the one that is acted in, locked by the caller. In what is deleted and waits to be erased nothing is
    made or changed, except by the system: raises Deleted.

    The environment is held first: whoever changes roles or permissions holds it exclusively, and so waits for all who
    grant, and they for it. Else a grant, which locks roles in two steps, and an edit of several roles could deadlock.
    """
    lock_shared(Environment.objects.filter(pk=by.environment.pk))
    if by.is_system:
        return by, UNLIMITED
    if not even_if_deleted:
        check_not_deleted(by.environment, tenant)
    if by.membership is not None:
        lock_shared(Membership.objects.filter(pk=by.membership.pk))
        lock_shared(Role.objects.filter(membership_roles__membership=by.membership))
        return by, grantor_of_membership(by.membership)
    if by.vendor_membership is not None:
        lock_shared(VendorMembership.objects.filter(pk=by.vendor_membership.pk))
        return by, grantor_of_vendor_membership(by.vendor_membership, by.environment)
    if by.token is None:
        return by, POWERLESS
    lock_shared(Membership.objects.filter(api_tokens=by.token))
    lock_shared(ApiToken.objects.filter(pk=by.token.pk))
    lock_shared(Role.objects.filter(token_roles__token=by.token))
    row = WITH_STANDING.first(pk=by.token.pk)
    if row is None:
        return by, POWERLESS
    by = replace(by, token=row)
    now = policy.effective_permissions(policy.Standing.of(row))
    if policy.state(row, now, at=at) != policy.State.USABLE:
        return by, POWERLESS
    if by.scopes is not None:
        now = now.narrowed(by.scopes)
    # A JWT that was narrowed when it was issued grants no roles, whatever the token has become since.
    return by, Grantor(level=None if by.is_narrowed else now.level, permissions=now.permissions)


def check_not_deleted(environment: Environment, tenant: Tenant | None = None) -> None:
    """Asked under the locks on them, of the rows as they are now; raises Deleted."""
    name = (
        Environment.objects.filter(pk=environment.pk, deleted_at__isnull=False).values_list("name", flat=True).first()
    )
    if name is None and tenant is not None:
        name = Tenant.objects.filter(pk=tenant.pk, deleted_at__isnull=False).values_list("name", flat=True).first()
    if name is not None:
        raise Deleted(name)


def hold_member(by: Principal) -> None:
    """The member who acts, themselves or by a personal token, against change; `grantor_of` alone comes too late for
    whoever holds the environment exclusively. Nothing for those who are no member."""
    if by.member is not None:
        lock_shared(Membership.objects.filter(pk=by.member.pk))


def check_may_make(by: Principal, what: Order | ApiToken) -> None:
    if by.token is None:
        check_its_owner(by, what)
        return
    if not by.token.token_type.may_make_tokens:
        raise MayNotMakeTokens
    if what.owner == Owner.USER and by.token.owner != Owner.ENVIRONMENT:
        raise MayNotMakeTokens


def check_its_owner(by: Principal, what: Order | ApiToken) -> None:
    """A person makes, changes and enables no personal token but their own; raises NotItsOwner (R3)."""
    is_environments = by.token is not None and by.token.owner == Owner.ENVIRONMENT
    if what.owner != Owner.USER or by.is_system or is_environments:
        return
    if by.member is None or what.membership != by.member:
        raise NotItsOwner


def check_environment_wide(by: Principal, environment: Environment) -> None:
    """For what belongs to the environment as a whole: raises OutOfReach for whoever acts in one tenant of it (R2)."""
    if by.environment != environment or by.tenant is not None or by.membership is not None:
        raise OutOfReach


def decide(
    grantor: Grantor, token_type: TokenType, tenant: Tenant | None, membership: Membership | None, grant: Grant
) -> Decided:
    """What the grant would fix, after the ceiling has passed it (R3)."""
    owner = Owner(token_type.owner)
    known = Permission.objects.filter(environment=token_type.environment_id).values_list("key", GRANTABLE[owner])
    grantable = {key for key, is_grantable in known if is_grantable}
    if grant.roles and grant.permissions:
        raise InvalidField("permissions", _("Give either roles or permissions, not both."))
    if grant.roles:
        found = Role.objects.filter(pk__in=resolve(grant.roles, token_type.environment, tenant))
        lock_shared(found)
        roles = list(found)
        held = held_roles(roles)
        _check_carried(token_type, roles, held)
        check_roles(grantor, held.values(), strict=token_type.environment.strict_ceiling)
        everything = policy.grantor_with(held.values()).permissions
        granted = _less(everything, grant.without) & grantable
        if not granted:
            raise InvalidField("without" if grant.without else "roles", _("Nothing would be left for it to do."))
        return Decided(through="roles", granted=granted, roles=tuple(roles))
    if grant.permissions:
        if unknown := set(grant.permissions) - {key for key, _ in known}:
            raise InvalidField(
                "permissions", _("Unknown permission: %(unknown)s.") % {"unknown": listed(sorted(unknown))}
            )
        if barred := set(grant.permissions) - grantable:
            raise InvalidField(
                "permissions", _("Not for tokens of this owner: %(barred)s.") % {"barred": listed(sorted(barred))}
            )
        check_permissions(grantor, grant.permissions)
        picked = _less(frozenset(grant.permissions), grant.without)
        if not picked:
            raise InvalidField("without", _("Nothing would be left for it to do."))
        return Decided(through="permissions", granted=picked)
    if grant.without:
        raise InvalidField("without", _("Name the roles too, of whose permissions it shall not have these."))
    if owner != Owner.USER or membership is None:
        raise InvalidField("roles", _("Choose at least one role: a token without one could do nothing."))
    check_permissions(grantor, grantor_of_membership(membership).permissions & grantable)
    return Decided(through="owner", granted=frozenset())


def _less(permissions: frozenset[str], without: tuple[str, ...]) -> frozenset[str]:
    """The rest; what is not among them can't be left out, and was perhaps misspelt (R11)."""
    if missing := frozenset(without) - permissions:
        raise InvalidField(
            "without",
            _("There is nothing to leave out here: %(missing)s.") % {"missing": ", ".join(sorted(missing))[:200]},
        )
    return permissions - frozenset(without)


def resolve(names: tuple[str, ...], environment: Environment, tenant: Tenant | None) -> set[UUID]:
    """The ids of roles named by key or id; one not available here is unknown, whether or not it exists elsewhere."""
    available: dict[str, UUID] = {}
    for role in available_roles(environment, tenant):
        available[role.key] = available[str(role.id)] = role.id
    if unknown := [name for name in names if name not in available]:
        raise InvalidField("roles", _("Unknown role: %(unknown)s.") % {"unknown": ", ".join(sorted(unknown))[:200]})
    return {available[name] for name in names}


def _check_carried(token_type: TokenType, roles: list[Role], held: dict[UUID, HeldRole]) -> None:
    if token_type.carries_all_roles:
        return
    carried = set(token_type.token_type_roles.values_list("role_id", flat=True))
    for role in roles:
        if role.id not in carried:
            raise policy.RoleNotCarried(held[role.id])


def check_covers(grantor: Grantor, token: ApiToken) -> None:
    """R3 on everything that an existing token may do, with its roles as they are once they are locked."""
    check_enabled(token.token_type)
    lock_shared(Role.objects.filter(Q(token_roles__token=token) | Q(membership_roles__membership=token.membership_id)))
    standing = policy.Standing.of(WITH_STANDING.get(pk=token.pk))
    if standing.granted_through == "roles":
        roles = list(token.roles.all())
        _check_carried(token.token_type, roles, held_roles(roles))
        check_roles(grantor, standing.roles, strict=token.environment.strict_ceiling)
    elif standing.granted_through == "permissions":
        check_permissions(grantor, standing.granted)
    else:
        check_permissions(grantor, standing.followable)


def check_quota(token_type: TokenType, owner: Membership | Tenant | Environment, at: datetime) -> None:
    """Deleted ones are gone and expired ones don't count. The owner's row is locked, so nobody counts beside us."""
    if token_type.quota is None:
        return
    alive = ApiToken.objects.filter(token_type=token_type, owner_id=owner.pk).not_expired(at=at)
    if alive.count() >= token_type.quota:
        raise QuotaReached(token_type.quota)


def overlap_of(token_type: TokenType, asked: int | None) -> timedelta:
    """How long the old secret goes on: as asked for within the token type's limit, by default up to a day (R7)."""
    longest = token_type.longest_overlap
    if asked is None:
        return timedelta(seconds=min(DEFAULT_OVERLAP, longest))
    if not 0 <= asked <= longest:
        raise InvalidField(
            "overlap", _("The longest overlap here is %(time)s: choose a shorter one.") % {"time": in_days(longest)}
        )
    return timedelta(seconds=asked)


def check_begins_before_it_ends(token: ApiToken) -> None:
    """Raises InvalidField."""
    if token.not_before and token.expires_at and token.not_before >= token.expires_at:
        raise InvalidField(
            "not_before", _("It would expire before it begins: choose an earlier moment, or a later expiry.")
        )


def expiry_of(parent: ApiToken | None, token_type: TokenType, expiry: Expiry, at: datetime) -> datetime | None:
    """Within the token type's limits, and never after the token that made it (R13)."""
    moment = expiry.settle(token_type, now=at)
    latest = parent.expires_at if parent else None
    if latest is None or (moment is not None and moment <= latest):
        return moment
    if expiry == Expiry():
        return latest
    raise InvalidField(
        "expires_at",
        _("It can't outlive the token that made it, which expires %(latest)s.") % {"latest": f"{latest:%Y-%m-%d}"},
    )


def check_no_wider(by: Principal, token: ApiToken) -> None:
    """A token hands out none that outlives it or is open to more networks or for more APIs, be it itself (R13).

    What it makes is held to this by `expiry_of`, `networks_of` and `audiences_of`; what it changes, enables or rotates
    by this. Raises WiderThanCaller.
    """
    if by.token is not None and is_wider(token, than=by.token):
        raise WiderThanCaller


def check_no_wider_than_parent(token: ApiToken) -> None:
    """Whoever lets it work again, it is no wider than what made it; raises WiderThanParent."""
    if token.parent is not None and is_wider(token, than=token.parent):
        raise WiderThanParent


def is_wider(token: ApiToken, *, than: ApiToken) -> bool:
    """Whether it lives longer than the other, or is open to networks or good for APIs that the other is not."""
    if than.expires_at is not None and (token.expires_at is None or token.expires_at > than.expires_at):
        return True
    if than.ip_allowlist and not (token.ip_allowlist and all_lie_within(token.ip_allowlist, than.ip_allowlist)):
        return True
    return bool(than.audiences) and not (token.audiences and set(token.audiences) <= set(than.audiences))


def networks_of(
    by: Principal, token_type: TokenType, asked: tuple[str, ...], *, parent: ApiToken | None = None
) -> list[str]:
    """The IP allowlist: never more networks than those of the token that asks, or of the one that made it (R13)."""
    networks = clean_networks(asked)
    bounds = [token.ip_allowlist for token in (by.token, parent) if token is not None and token.ip_allowlist]
    if not networks and bounds:
        networks = bounds[0]
    if not all(all_lie_within(networks, bound) for bound in bounds):
        raise InvalidField("ip_allowlist", _("It can't be used from more networks than the token that makes it."))
    if token_type.requires_ip_allowlist and not networks:
        raise InvalidField("ip_allowlist", _("Tokens of this type need the networks they may be used from."))
    return networks


def audiences_of(
    by: Principal,
    environment: Environment,
    asked: tuple[str, ...],
    *,
    parent: ApiToken | None = None,
    held: Collection[str] = (),
) -> list[str]:
    """The API identifiers it is held to, none for all; never more than those of the token that asks, or made it (R13).

    Each is one of the environment's, or its issuer, or one that it is `held` to already. Raises InvalidField, also for
    none in place of those that are all gone: that would take a token from no API to every one.
    """
    bounds = [token.audiences for token in (by.token, parent) if token is not None and token.audiences]
    audiences = sorted(set(asked or (bounds[0] if bounds else ())))
    known = {environment.issuer, *environment.api_identifiers.values_list("uri", flat=True)}
    if held and not asked and known.isdisjoint(held):
        raise InvalidField(
            "audiences", _("None of its APIs is left, and naming none would mean all of them: name one that there is.")
        )
    if unknown := sorted(set(asked) - known - set(held)):
        raise InvalidField(
            "audiences", _("Unknown API identifier: %(unknown)s.") % {"unknown": ", ".join(unknown)[:200]}
        )
    if not all(set(audiences) <= set(bound) for bound in bounds):
        raise InvalidField("audiences", _("It can't be used for more APIs than the token that makes it."))
    return audiences
