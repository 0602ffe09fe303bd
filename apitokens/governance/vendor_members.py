"""The vendor's own people: owners, admins and auditors, in all environments or in some.

Only owners decide about them, as people: a token acts inside one environment. What concerns a person is recorded in
each environment that they cover, since environments are walls and each has its own record.
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from uuid import UUID

from django.db.models import F
from django.utils.translation import gettext as _

from accounts.models import User
from apitokens import ceiling
from apitokens.changing import AlreadySo, changing, check_version
from apitokens.governance import offers
from apitokens.governance.environments import OwnersOnly
from apitokens.governance.members import TOKENS_KEPT, AlreadyMember, LastOwner, delete_each
from apitokens.governance.offers import Invited
from apitokens.models import ApiToken
from apitokens.orders import InvalidField
from apitokens.principals import Principal
from apitokens.services import Gone
from audit.services import Detail, Refusal, record, remember
from audit.words import listed
from tenants.models import (
    Environment,
    Invitation,
    InvitationEnvironment,
    Vendor,
    VendorMembership,
    VendorMembershipEnvironment,
)
from tenants.policy import check_holds
from tenants.queries import grantor_of_vendor_membership, lock, lock_shared

OWNER = VendorMembership.Role.OWNER


class PeopleOnly(ceiling.OutOfReach):
    """No token, not even an environment's, has a say in who works for the vendor."""

    def __init__(self) -> None:
        super().__init__(
            _("Tokens don't decide who works for the vendor: only its owners do, signed in as themselves.")
        )


class EnvironmentAboveCeiling(Refusal):
    """An owner of some environments hands out no others."""

    code = "environment_above_ceiling"
    field = "environments"

    def __init__(self) -> None:
        super().__init__(_("You can't decide about environments that you don't cover yourself."))


def invite(
    *, by: Principal, email: str, role: str, environments: Sequence[Environment] | None, at: datetime
) -> Invited:
    """Offer somebody a place with the vendor. `environments` None means all, those to come included."""
    vendor = by.environment.vendor
    with _changing(by, "vendor_invitation.sent", target_kind="invitation", asked={"vendor_role": role}):
        own = _locked_owner(by, "environments:create")
        role, ids = _clean(role, environments, vendor)
        _check_covered(own, ids)
        email = offers.clean_email(email)
        if VendorMembership.objects.filter(vendor=vendor, ended_at__isnull=True, **_local(email)).exists():
            raise AlreadyMember
        for replaced in offers.open_in(vendor).filter(email__iexact=email):
            _check_covered(own, _listed(replaced))
        invitation, key = offers.make(
            by=by, place=vendor, email=email, at=at, vendor_role=role, in_all_environments=ids is None
        )
        InvitationEnvironment.objects.bulk_create(
            InvitationEnvironment(invitation=invitation, environment_id=environment_id, vendor=vendor)
            for environment_id in sorted(ids or ())
        )
        _record_everywhere(by, "vendor_invitation.sent", "invitation", invitation.id, ids, after=offered(invitation))
    return offers.deliver(by=by, invitation=invitation, key=key, to=vendor.name)


def revoke(*, by: Principal, invitation: Invitation, at: datetime) -> None:
    """The link opens nothing any more, as if it had never been."""
    with _changing(by, "vendor_invitation.revoked", target_kind="invitation", target_id=invitation.id):
        _locked_owner(by, "environments:delete")
        lock(invitation)
        now = offers.open_in(by.environment.vendor).filter(pk=invitation.pk).first()
        if now is None:
            raise Gone
        before, ids = offered(now), _listed(now)
        now.delete()
        _record_everywhere(by, "vendor_invitation.revoked", "invitation", invitation.id, ids, before=before)


def change(
    *,
    by: Principal,
    member: VendorMembership,
    role: str,
    environments: Sequence[Environment] | None,
    at: datetime,
    expected: str | Sequence[str] | None = None,
) -> VendorMembership:
    """Another role or other environments. JWTs of their tokens die when they lose an environment (R5)."""
    with _changing(by, "vendor_membership.changed", target_id=member.id):
        own, now = _locked(by, member, "environments:create")
        before, had = snapshot(now), _covered(now)
        check_version(expected, before)
        role, ids = _clean(role, environments, now.vendor)
        _check_covered(own, had)
        _check_covered(own, ids)
        if role != OWNER or ids is not None:
            _check_kept(now, still_owner=role == OWNER)
        if ids is not None and (had is None or had - ids):
            now.generation = F("generation") + 1
        now.role, now.in_all_environments = role, ids is None
        now.save(update_fields=["role", "in_all_environments", "generation"])
        _list_environments(now, ids)
        now.refresh_from_db()
        if (after := snapshot(now)) != before:
            _record(by, "vendor_membership.changed", now, _union(had, ids), before=before, after=after)
    return now


def suspend(*, by: Principal, member: VendorMembership, at: datetime) -> VendorMembership:
    """They open no console and their own tokens stop, until they are reinstated; their JWTs stay dead (R5)."""
    with _changing(by, "vendor_membership.suspended", target_id=member.id):
        own, now = _locked(by, member, "environments:delete")
        _check_covered(own, _covered(now))
        if now.suspended_at is not None:
            raise AlreadySo(_("This person is suspended already."))
        _check_kept(now)
        _stop(by, "vendor_membership.suspended", now, suspended_at=at)
    return now


def reinstate(*, by: Principal, member: VendorMembership, at: datetime) -> VendorMembership:
    with _changing(by, "vendor_membership.reinstated", target_id=member.id):
        own, now = _locked(by, member, "environments:create")
        _check_covered(own, _covered(now))
        if now.suspended_at is None:
            raise AlreadySo(_("This person is not suspended."))
        before = snapshot(now)
        now.suspended_at = None
        now.save(update_fields=["suspended_at"])
        _record(by, "vendor_membership.reinstated", now, _covered(now), before=before, after=snapshot(now))
    return now


def remove(*, by: Principal, member: VendorMembership, at: datetime, even_the_last: bool = False) -> VendorMembership:
    """End it; their own tokens stop by themselves and wait seven days for a return.

    The operator may remove even the last owner, and has to make another one then.
    """
    with _changing(by, "vendor_membership.ended", target_id=member.id):
        own, now = _locked(by, member, "environments:delete")
        _check_covered(own, _covered(now))
        if not (even_the_last and by.is_system):
            _check_kept(now)
        _stop(by, "vendor_membership.ended", now, ended_at=at)
    return now


def leave(*, by: Principal, at: datetime) -> None:
    """End one's own place with the vendor, which takes no role; only the last owner has to stay."""
    if by.vendor_membership is None:
        raise ceiling.OutOfReach
    with _changing(by, "vendor_membership.left", target_id=by.vendor_membership.id):
        lock(by.environment.vendor)
        now = _now(by.vendor_membership)
        _check_kept(now)
        _stop(by, "vendor_membership.left", now, ended_at=at)


def admit(*, by: Principal, invitation: Invitation, user: User, at: datetime) -> VendorMembership:
    """Make somebody one of the vendor's people, or again one. Decided and locked by the caller, in its transaction."""
    ids = _listed(invitation)
    member = VendorMembership.objects.select_related("vendor", "user").filter(vendor=invitation.vendor, user=user)
    now = member.first()
    before = snapshot(now) if now else None
    if now is None:
        now = VendorMembership(vendor=invitation.vendor, user=user, created_at=at)
    elif now.ended_at is None:
        raise AlreadyMember
    elif now.ended_at <= at - TOKENS_KEPT:
        delete_each(by, ApiToken.objects.filter(vendor_membership=now))
    now.role, now.in_all_environments = invitation.vendor_role, ids is None
    now.ended_at = now.suspended_at = None
    now.save()
    _list_environments(now, ids)
    verb = "vendor_membership.resumed" if before else "vendor_membership.created"
    _record(by, verb, now, ids, before=before, after=snapshot(now))
    return now


def is_last_owner(member: VendorMembership) -> bool:
    """Whether the vendor would lose its last owner, or the last of all environments, with this person."""
    try:
        _check_kept(member)
    except LastOwner:
        return True
    return False


def check_may_still_offer(invitation: Invitation, *, by: Principal) -> None:
    """Whether the sender, as they are now, could send it again; raises OwnersOnly or EnvironmentAboveCeiling."""
    own = _owner_now(by, "environments:create")
    _check_covered(own, _listed(invitation))


def snapshot(member: VendorMembership) -> dict[str, object]:
    """By id, never by name; `environments` are slugs, or None for all of them."""
    return {
        "user": str(member.user_id),
        "vendor_role": member.role,
        "environments": _slugs(member),
        "suspended_at": member.suspended_at.isoformat() if member.suspended_at else None,
        "ended_at": member.ended_at.isoformat() if member.ended_at else None,
    }


def offered(invitation: Invitation) -> dict[str, object]:
    return {"vendor_role": invitation.vendor_role, "environments": _slugs(invitation)}


def _changing(
    by: Principal,
    verb: str,
    *,
    target_kind: str = "vendor_membership",
    target_id: UUID | None = None,
    asked: Detail | None = None,
) -> AbstractContextManager[None]:
    return changing(by, verb, target_kind=target_kind, target_id=target_id, asked=asked)


def _locked_owner(by: Principal, permission: str) -> VendorMembership | None:
    """The owner who asks, as they are under a lock on the vendor; None for the system, which covers everything."""
    ceiling.check_environment_wide(by, by.environment)
    if by.token is not None:
        raise PeopleOnly
    lock(by.environment.vendor)
    _check_not_deleted(by)
    return _owner_now(by, permission)


def _owner_now(by: Principal, permission: str) -> VendorMembership | None:
    """Raises PermissionMissing for who only reads, OwnersOnly for other people of the vendor."""
    if by.is_system:
        return None
    if by.vendor_membership is None:
        raise OwnersOnly
    lock_shared(VendorMembership.objects.filter(pk=by.vendor_membership.pk))
    check_holds(grantor_of_vendor_membership(by.vendor_membership, by.environment), permission)
    owner = VendorMembership.objects.active().filter(pk=by.vendor_membership.pk, role=OWNER).first()
    if owner is None:
        raise OwnersOnly
    return owner


def _locked(
    by: Principal, member: VendorMembership, permission: str
) -> tuple[VendorMembership | None, VendorMembership]:
    """Who asks and whom it is about, as they are now; the member is held before the grantor, as everywhere."""
    ceiling.check_environment_wide(by, by.environment)
    if by.token is not None:
        raise PeopleOnly
    if member.vendor_id != by.environment.vendor_id:
        raise ceiling.OutOfReach
    lock(by.environment.vendor)
    _check_not_deleted(by)
    lock(member)
    own = _owner_now(by, permission)
    return own, _now(member)


def _check_not_deleted(by: Principal) -> None:
    """From within an environment that waits to be erased nobody is invited or changed; raises Deleted."""
    lock_shared(Environment.objects.filter(pk=by.environment.pk))
    if not by.is_system:
        ceiling.check_not_deleted(by.environment)


def _now(member: VendorMembership) -> VendorMembership:
    lock(member)
    rows = VendorMembership.objects.select_related("vendor", "user")
    now = rows.filter(pk=member.pk, ended_at__isnull=True).first()
    if now is None:
        raise Gone
    return now


def _clean(role: str, environments: Sequence[Environment] | None, vendor: Vendor) -> tuple[str, frozenset[UUID] | None]:
    if role not in VendorMembership.Role.values:
        raise InvalidField(
            "role", _("The role is one of %(values)s.") % {"values": listed(VendorMembership.Role.values)}
        )
    if environments is None:
        return role, None
    if not environments:
        raise InvalidField("environments", _("Choose at least one environment, or all of them."))
    if any(environment.vendor_id != vendor.pk for environment in environments):
        raise InvalidField("environments", _("This is no environment of yours."))
    return role, frozenset(environment.pk for environment in environments)


def _local(email: str) -> dict[str, object]:
    return {"user__email__iexact": email, "user__voucher_id__isnull": True}


def _listed(row: VendorMembership | Invitation) -> frozenset[UUID] | None:
    if row.in_all_environments:
        return None
    return frozenset(row.listed.values_list("environment_id", flat=True))


_covered = _listed


def _slugs(row: VendorMembership | Invitation) -> list[str] | None:
    return None if row.in_all_environments else sorted(row.environments.values_list("slug", flat=True))


def _union(one: frozenset[UUID] | None, other: frozenset[UUID] | None) -> frozenset[UUID] | None:
    return None if one is None or other is None else one | other


def _check_covered(own: VendorMembership | None, asked: frozenset[UUID] | None) -> None:
    """Raises EnvironmentAboveCeiling; `own` None is the system."""
    covered = None if own is None else _listed(own)
    if covered is not None and (asked is None or asked - covered):
        raise EnvironmentAboveCeiling


def _check_kept(member: VendorMembership, *, still_owner: bool = False) -> None:
    """Raises LastOwner for the last active owner, and for the last of all environments, who alone reaches the rest."""
    owners = VendorMembership.objects.active().filter(vendor=member.vendor_id, role=OWNER)
    if not owners.filter(pk=member.pk).exists():
        return
    others = owners.exclude(pk=member.pk)
    if member.in_all_environments:
        others = others.filter(in_all_environments=True)
    elif still_owner:
        return
    if not others.exists():
        raise LastOwner


def _list_environments(member: VendorMembership, ids: frozenset[UUID] | None) -> None:
    VendorMembershipEnvironment.objects.filter(vendor_membership=member).delete()
    VendorMembershipEnvironment.objects.bulk_create(
        VendorMembershipEnvironment(vendor_membership=member, environment_id=environment_id, vendor_id=member.vendor_id)
        for environment_id in sorted(ids or ())
    )


def _stop(by: Principal, verb: str, member: VendorMembership, **when: datetime) -> None:
    before = snapshot(member)
    VendorMembership.objects.filter(pk=member.pk).update(generation=F("generation") + 1, **when)
    member.refresh_from_db(fields=["generation", *when])
    _record(by, verb, member, _covered(member), before=before, after=snapshot(member))


def _record(
    by: Principal,
    verb: str,
    member: VendorMembership,
    ids: frozenset[UUID] | None,
    *,
    before: Detail | None = None,
    after: Detail | None = None,
) -> None:
    remember(member.user_id, str(member.user))
    _record_everywhere(by, verb, "vendor_membership", member.id, ids, before=before, after=after)


def _record_everywhere(
    by: Principal,
    verb: str,
    target_kind: str,
    target_id: UUID,
    ids: Iterable[UUID] | None,
    *,
    before: Detail | None = None,
    after: Detail | None = None,
) -> None:
    """One event in each environment that it concerns; `ids` None is all of the vendor's."""
    every = by.environment.vendor.environments.order_by("pk").values_list("pk", flat=True)
    for environment_id in every if ids is None else sorted(ids):
        record(
            actor=by.actor,
            verb=verb,
            target_kind=target_kind,
            target_id=target_id,
            environment_id=environment_id,
            tenant_id=None,
            before=before,
            after=after,
        )
