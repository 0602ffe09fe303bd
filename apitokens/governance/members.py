"""Who is in a tenant, and with which roles.

Giving roles is granting (R3): whoever changes a member covers what they have and what they get. Locks are taken in one
order: the tenant, the member, the grantor, roles, tokens; the tenant's makes two last owners who leave at once wait
for each other. Nothing here sweeps tokens: a personal one works as long as its owner does (R5).
"""

from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Exists, F, Max, OuterRef, Q, QuerySet
from django.utils.translation import gettext as _

from accounts.models import User
from apitokens import ceiling, policy
from apitokens.changing import AlreadySo, changing, check_version, record_change
from apitokens.credentials import redacted
from apitokens.models import ApiToken, Owner, Secret
from apitokens.orders import InvalidField
from apitokens.principals import Principal
from apitokens.querysets import ApiTokenQuerySet
from apitokens.services import Gone, tombstone
from apitokens.setup import give_role
from audit.services import Detail, Refusal, record, remember
from tenants.models import Membership, MembershipRole, Role, Tenant
from tenants.policy import POWERLESS, Grantor, HeldRole, RoleAboveCeiling, check_holds, check_roles, why_not
from tenants.queries import held_roles, is_strict, lock, lock_shared

# How long the personal tokens of somebody who left wait for them to come back.
TOKENS_KEPT = timedelta(days=7)
# How many tokens of each sort an inventory names; it counts them all.
SHOWN = 200
KEEPS = "members:create"


class LastOwner(Refusal):
    """Without this person nobody could give anybody a role any more."""

    code = "last_owner"

    def __init__(self) -> None:
        super().__init__(
            _("This is the last owner: nobody else could manage members. Give somebody else as high a role first.")
        )


class OwnRoles(Refusal):
    """Nobody gives themselves a role; somebody else who may grant it has to."""

    code = "own_roles"
    field = "roles"

    def __init__(self) -> None:
        super().__init__(_("You can drop roles of your own, not take new ones: ask somebody else who may grant them."))


class MemberAboveCeiling(RoleAboveCeiling):
    """The member has a role that the one who asks may not hand out, nor therefore take away."""

    field = ""

    def __init__(self, role: HeldRole, because: str, *, is_above: bool) -> None:
        super().__init__(role, because)
        if is_above:
            text = _("This person is above you. They have the role %(name)s: %(because)s")
        else:
            text = _("You can't decide about this person's roles. They have the role %(name)s: %(because)s")
        self.args = (text % {"name": role.name, "because": because},)


class AlreadyMember(Refusal):
    code = "already_member"
    is_denial = False
    field = "email"

    def __init__(self) -> None:
        super().__init__(
            _("This person is a member already: change their roles instead, or reinstate them if they are suspended.")
        )


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """What somebody leaves behind, newest first: at most SHOWN of each sort by name, and how many there are.

    `made` and `shown` are the tenant's tokens: those they made, and those whose live secret they have seen.
    """

    personal: list[ApiToken]
    made: list[ApiToken]
    shown: list[ApiToken]
    personal_count: int
    made_count: int
    shown_count: int

    @property
    def of_tenant(self) -> list[ApiToken]:
        """Those made or shown, each once."""
        return list({token.pk: token for token in [*self.made, *self.shown]}.values())

    @property
    def is_cut(self) -> bool:
        return max(self.personal_count, self.made_count, self.shown_count) > SHOWN


def change_roles(
    *,
    by: Principal,
    membership: Membership,
    roles: Sequence[str],
    at: datetime,
    expected: str | Sequence[str] | None = None,
) -> Membership:
    """Give the member exactly these roles, named by key or id. The grantor covers those before and those after (R3)."""
    asked = {"roles": list(roles)}
    with _changing(by, "membership.roles_changed", membership, asked=asked):
        by, grantor, member = _locked(by, membership, at)
        check_holds(grantor, "members:create")
        before = snapshot(member)
        check_version(expected, before)
        check_covers(grantor, member)
        wanted = granted_roles(grantor, member.tenant, roles)
        if is_own(by, member) and {role.id for role in wanted} - {role.id for role in member.roles.all()}:
            raise OwnRoles
        replace_roles(by=by, grantor=grantor, member=member, roles=wanted)
    return member


def replace_roles(*, by: Principal, grantor: Grantor, member: Membership, roles: Sequence[Role]) -> None:
    """Let the member have these alone. Decided and locked by the caller, in its transaction; raises LastOwner."""
    _check_kept(grantor, member, held_roles(roles).values())
    before = snapshot(member)
    _replace_roles(member, roles)
    after = snapshot(member)
    if after != before:
        _record(by, "membership.roles_changed", member, before=before, after=after)


def suspend(*, by: Principal, membership: Membership, at: datetime) -> Membership:
    """They open no door and their personal tokens stop, until they are reinstated; their JWTs stay dead (R5)."""
    with _changing(by, "membership.suspended", membership):
        by, grantor, member = _locked(by, membership, at)
        check_holds(grantor, "members:delete")
        check_not_above(grantor, member)
        if member.suspended_at is not None:
            raise AlreadySo(_("This person is suspended already."))
        _check_kept(grantor, member)
        before = snapshot(member)
        _stop(member, suspended_at=at)
        _record(by, "membership.suspended", member, before=before, after=snapshot(member))
    return member


def reinstate(*, by: Principal, membership: Membership, at: datetime) -> Membership:
    """Let them in again with the roles they have: granting (R3)."""
    with _changing(by, "membership.reinstated", membership):
        by, grantor, member = _locked(by, membership, at)
        check_holds(grantor, "members:create")
        check_covers(grantor, member)
        if member.suspended_at is None:
            raise AlreadySo(_("This person is not suspended."))
        before = snapshot(member)
        member.suspended_at = None
        member.save(update_fields=["suspended_at"])
        _record(by, "membership.reinstated", member, before=before, after=snapshot(member))
    return member


def remove(*, by: Principal, membership: Membership, at: datetime, delete_tokens: Collection[str] = ()) -> Membership:
    """End the membership; personal tokens stop by themselves and wait seven days for a return.

    `delete_tokens` are token ids among the tenant's tokens that this person made or was shown: they go for good.
    """
    if delete_tokens:
        ceiling.check_confirmed(by, at=at)
    with _changing(by, "membership.ended", membership):
        by, grantor, member = _locked(by, membership, at)
        check_holds(grantor, "members:delete")
        check_not_above(grantor, member)
        _check_kept(grantor, member)
        if delete_tokens:
            check_holds(grantor, "apitokens:delete")
            _delete_known(by, member, delete_tokens)
        before = snapshot(member)
        _stop(member, ended_at=at)
        _record(by, "membership.ended", member, before=before, after=snapshot(member))
    return member


def leave(*, by: Principal, at: datetime) -> None:
    """End one's own membership, which takes no permission; only the last owner has to stay."""
    if by.membership is None:
        raise ceiling.OutOfReach
    with _changing(by, "membership.left", by.membership):
        by, _, member = _locked(by, by.membership, at)
        _check_kept(POWERLESS, member)
        before = snapshot(member)
        _stop(member, ended_at=at)
        _record(by, "membership.left", member, before=before, after=snapshot(member))


def admit(*, by: Principal, tenant: Tenant, user: User, roles: Iterable[Role], at: datetime) -> Membership:
    """Make somebody a member, or again one, with these roles. Decided and locked by the caller, in its transaction.

    Who comes back within seven days finds their personal tokens, capped by the roles they have now (R4).
    """
    member = Membership.objects.filter(tenant=tenant, user=user).first()
    if member is None:
        member = Membership.objects.create(environment=tenant.environment, tenant=tenant, user=user, created_at=at)
        verb, before = "membership.created", None
    elif member.ended_at is None:
        raise AlreadyMember
    else:
        verb, before = "membership.resumed", snapshot(member)
        if member.ended_at <= at - TOKENS_KEPT:
            delete_each(by, ApiToken.objects.filter(membership=member))
        member.ended_at = member.suspended_at = None
        member.save(update_fields=["ended_at", "suspended_at"])
    _replace_roles(member, roles)
    _record(by, verb, member, before=before, after=snapshot(member))
    return member


def inventory(membership: Membership, *, among: ApiTokenQuerySet | None = None) -> Inventory:
    """What is theirs and what they know, with standing; `among` narrows it to what the one who looks may see."""
    tokens = ApiToken.objects.all() if among is None else among
    tokens = tokens.order_by("-created_at", "-id")
    personal = tokens.filter(membership=membership)
    of_tenant = tokens.filter(tenant=membership.tenant_id, owner=Owner.TENANT)
    made = of_tenant.filter(creator=membership.user_id)
    shown = of_tenant.filter(pk__in=_seen_by(membership))
    lists = [
        list(rows.with_standing().with_last_four().with_versions()[: SHOWN + 1]) for rows in (personal, made, shown)
    ]
    counts = [
        len(found) if len(found) <= SHOWN else rows.count()
        for found, rows in zip(lists, (personal, made, shown), strict=True)
    ]
    return Inventory(
        personal=lists[0][:SHOWN],
        made=lists[1][:SHOWN],
        shown=lists[2][:SHOWN],
        personal_count=counts[0],
        made_count=counts[1],
        shown_count=counts[2],
    )


def snapshot(member: Membership) -> dict[str, object]:
    """The member as the record and the version know them: by id, never by name."""
    return {
        "user": str(member.user_id),
        "roles": sorted(role.key for role in member.roles.all()),
        "suspended_at": _iso(member.suspended_at),
        "ended_at": _iso(member.ended_at),
    }


def is_own(by: Principal, member: Membership) -> bool:
    """Whether it is the very member who acts, themselves or by a token that is theirs or that they made."""
    made_it = by.token is not None and by.token.tenant_id == member.tenant_id and by.token.creator_id == member.user_id
    return made_it or by.member == member


def is_last_keeper(membership: Membership) -> bool:
    """Whether nobody else in the tenant could manage members at as high a level."""
    last = _last_keeper(membership.tenant_id)
    return last is not None and last[0] == membership.pk


def granted_roles(grantor: Grantor, tenant: Tenant, names: Sequence[str]) -> list[Role]:
    """The roles of these keys or ids, available in the tenant, held against change and within the ceiling (R3)."""
    named = ceiling.resolve(tuple(names), tenant.environment, tenant)
    if not named:
        return []
    found = Role.objects.filter(pk__in=named)
    lock_shared(found)
    roles = list(found.order_by("level", "key"))
    check_roles(grantor, held_roles(roles).values(), strict=is_strict(tenant.environment))
    return roles


def check_covers(grantor: Grantor, member: Membership) -> None:
    """Raises MemberAboveCeiling: who may not hand out a role may not take it away either, nor bring it back."""
    check_not_above(grantor, member)
    for role in held_roles(member.roles.order_by("level", "key")).values():
        if because := why_not(grantor, role, strict=member.environment.strict_ceiling):
            raise MemberAboveCeiling(role, because, is_above=False)


def check_not_above(grantor: Grantor, member: Membership) -> None:
    """Raises MemberAboveCeiling. To stop somebody is no granting: their level counts, not what else they may do."""
    for role in held_roles(member.roles.order_by("level", "key")).values():
        if because := why_not(grantor, role, strict=False):
            raise MemberAboveCeiling(role, because, is_above=True)


def _changing(
    by: Principal, verb: str, membership: Membership, *, asked: Detail | None = None
) -> AbstractContextManager[None]:
    return changing(by, verb, target_kind="membership", target_id=membership.id, tenant=membership.tenant, asked=asked)


def _record(
    by: Principal, verb: str, member: Membership, *, before: Detail | None = None, after: Detail | None = None
) -> None:
    remember(member.user_id, str(member.user))
    record_change(
        by, verb, target_kind="membership", target_id=member.id, tenant=member.tenant, before=before, after=after
    )


def _locked(by: Principal, membership: Membership, at: datetime) -> tuple[Principal, Grantor, Membership]:
    """Who asks, what they may hand out, and the member, all as they are now."""
    ceiling.check_reach(by, membership.environment, membership.tenant, owner=Owner.TENANT)
    lock(membership.tenant)
    lock(membership)
    by, grantor = ceiling.grantor_of(by, at=at, tenant=membership.tenant)
    lock_shared(Role.objects.filter(membership_roles__membership=membership))
    now = Membership.objects.select_related("tenant__environment", "environment", "user")
    member = now.filter(pk=membership.pk, ended_at__isnull=True).first()
    if member is None:
        raise Gone
    return by, grantor, member


def keepers(tenant_id: UUID) -> list[tuple[UUID, int]]:
    """The two highest of the active members who may manage members and can sign in, each with their level."""
    may_manage = MembershipRole.objects.filter(membership=OuterRef("pk"), role__permissions__key=KEEPS)
    active = Membership.objects.filter(
        Exists(may_manage), tenant=tenant_id, suspended_at__isnull=True, ended_at__isnull=True, user__is_active=True
    )
    by_level = active.with_a_way_in().annotate(level=Max("roles__level")).order_by("-level", "pk")
    return list(by_level.values_list("pk", "level")[:2])


def _last_keeper(tenant_id: UUID) -> tuple[UUID, int] | None:
    """The one keeper of the highest level, if there is but one, and that level."""
    top = keepers(tenant_id)
    if not top or (len(top) > 1 and top[0][1] == top[1][1]):
        return None
    return top[0]


def _check_kept(grantor: Grantor, member: Membership, left: Iterable[HeldRole] = ()) -> None:
    """Raises LastOwner if with the roles that are left the tenant would lose its last keeper; the vendor may do it."""
    last = None if grantor.is_unlimited else _last_keeper(member.tenant_id)
    if last is None or last[0] != member.pk:
        return
    after = policy.grantor_with(list(left))
    if not after.holds(KEEPS) or after.level is None or after.level < last[1]:
        raise LastOwner


def _replace_roles(member: Membership, roles: Iterable[Role]) -> None:
    wanted = {role.id: role for role in roles}
    has = set(member.membership_roles.values_list("role_id", flat=True))
    member.membership_roles.exclude(role__in=wanted).delete()
    for role_id in wanted.keys() - has:
        give_role(member, wanted[role_id])


def _stop(member: Membership, **when: datetime) -> None:
    Membership.objects.filter(pk=member.pk).update(generation=F("generation") + 1, **when)
    member.refresh_from_db(fields=["generation", *when])


def _seen_by(membership: Membership) -> QuerySet[Secret, Any]:
    return Secret.objects.filter(shown_to=membership.user_id, slot__isnull=False).values("token")


def _delete_known(by: Principal, member: Membership, token_ids: Collection[str]) -> None:
    known = ApiToken.objects.filter(
        Q(creator=member.user_id) | Q(pk__in=_seen_by(member)), tenant=member.tenant_id, owner=Owner.TENANT
    )
    chosen = known.filter(token_id__in=set(token_ids))
    if unknown := set(token_ids) - set(chosen.values_list("token_id", flat=True)):
        named = ", ".join(sorted(redacted(token_id[:64]) for token_id in unknown))[:200]
        raise InvalidField(
            "delete_tokens", _("Not a token that this person made or was shown: %(named)s.") % {"named": named}
        )
    delete_each(by, chosen)


def delete_each(by: Principal, chosen: ApiTokenQuerySet) -> None:
    """The tokens go, for good, each with its tombstone (R6)."""
    rows = ApiToken.objects.filter(pk__in=chosen.values("pk")).order_by("pk")
    for token in rows.select_for_update(of=("self",), no_key=True):
        record(
            actor=by.actor,
            verb="apitoken.deleted",
            target_kind="apitoken",
            target_id=token.id,
            environment_id=token.environment_id,
            tenant_id=token.tenant_id,
            before=tombstone(token),
        )
        token.delete()


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
