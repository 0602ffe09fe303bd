"""Inviting somebody to a tenant, and accepting what one was invited to, be it by a tenant or by the vendor.

Inviting is granting (R3), and days pass before somebody accepts: so it is decided when the invitation is sent and again
when it is accepted, on what its sender may hand out at that moment. Locks: the tenant or the vendor, the invitation,
the member, the sender, roles.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.utils.translation import gettext as _

from accounts.models import User
from apitokens import ceiling
from apitokens.changing import changing, record_change
from apitokens.governance import members, offers, vendor_members
from apitokens.governance.members import AlreadyMember
from apitokens.governance.offers import Invited
from apitokens.models import Owner
from apitokens.orders import InvalidField, clean_name
from apitokens.principals import Principal
from apitokens.services import Gone
from audit.actors import Actor
from audit.models import ActorKind
from audit.services import Detail, Refusal
from tenants.models import Environment, Invitation, InvitationRole, Membership, Role, Tenant, VendorMembership
from tenants.policy import check_holds, check_roles
from tenants.queries import held_roles, lock, lock_shared


class InvitationUsed(Refusal):
    code = "invitation_used"
    is_denial = False

    def __init__(self) -> None:
        super().__init__(_("This invitation has been used already. Sign in: you may be a member by now."))


class InvitationExpired(Refusal):
    code = "invitation_expired"
    is_denial = False

    def __init__(self) -> None:
        super().__init__(_("This invitation has expired: ask for a new one."))


class InvitationVoid(Refusal):
    """Who sent it could not hand out now what it offers (R3)."""

    code = "invitation_void"

    def __init__(self) -> None:
        super().__init__(_("Whoever sent this invitation may not give you this any more: ask for a new invitation."))


class NotOpen(Refusal):
    """The tenant or its environment is suspended or deleted."""

    code = "tenant_closed"
    is_denial = False

    def __init__(self, text: str = "") -> None:
        super().__init__(text or _("Nobody can join this tenant at the moment: ask whoever invited you."))


class WrongPerson(Refusal):
    """The signed-in person is not the one invited; an identity vouched for elsewhere never is (R12)."""

    code = "invitation_for_another"

    def __init__(self) -> None:
        super().__init__(_("This invitation is for somebody else. If it is for you, sign out and open the link again."))


class AccountExists(Refusal):
    code = "account_exists"
    is_denial = False

    def __init__(self) -> None:
        super().__init__(_("You have an account already: sign in, and open the link again."))


@dataclass(frozen=True, kw_only=True)
class Joined:
    user: User
    membership: Membership | VendorMembership


def invite(*, by: Principal, tenant: Tenant, email: str, roles: Sequence[str], at: datetime) -> Invited:
    """Offer a membership with these roles, by key or id, to whoever has the e-mail and opens the link."""
    asked = {"roles": list(roles)}
    with changing(by, "invitation.sent", target_kind="invitation", tenant=tenant, asked=asked):
        ceiling.check_reach(by, tenant.environment, tenant, owner=Owner.TENANT)
        lock(tenant)
        by, grantor = ceiling.grantor_of(by, at=at, tenant=tenant)
        check_holds(grantor, "members:create")
        check_works(
            Tenant.objects.select_related("environment").get(pk=tenant.pk),
            _("Nobody can join %(name)s while it or its environment is suspended. Reinstate it first.")
            % {"name": tenant.name},
        )
        email = offers.clean_email(email)
        if not roles:
            raise InvalidField("roles", _("Choose at least one role: a member without one can do nothing."))
        granted = members.granted_roles(grantor, tenant, roles)
        local = {"user__email__iexact": email, "user__voucher_id__isnull": True}
        if Membership.objects.filter(tenant=tenant, ended_at__isnull=True, **local).exists():
            raise AlreadyMember
        invitation, key = offers.make(by=by, place=tenant, email=email, at=at)
        InvitationRole.objects.bulk_create(
            InvitationRole(
                invitation=invitation,
                role=role,
                tenant=tenant,
                environment_id=tenant.environment_id,
                role_scope_id=role.scope_id,
            )
            for role in granted
        )
        _record(by, "invitation.sent", invitation, after=snapshot(invitation))
    return offers.deliver(by=by, invitation=invitation, key=key, to=tenant.name)


def revoke(*, by: Principal, invitation: Invitation, at: datetime) -> None:
    """The link opens nothing any more, as if it had never been. Stopping an offer needs no rank."""
    tenant = invitation.tenant
    if tenant is None:
        raise Gone
    with changing(by, "invitation.revoked", target_kind="invitation", target_id=invitation.id, tenant=tenant):
        ceiling.check_reach(by, tenant.environment, tenant, owner=Owner.TENANT)
        lock(tenant)
        lock(invitation)
        by, grantor = ceiling.grantor_of(by, at=at, tenant=tenant)
        check_holds(grantor, "members:delete")
        now = offers.open_in(tenant).filter(pk=invitation.pk).first()
        if now is None:
            raise Gone
        before = snapshot(now)
        now.delete()
        _record(by, "invitation.revoked", invitation, before=before)


def find(key: str) -> Invitation:
    """The invitation that the link is for; raises Gone for a key that never was, or was revoked or replaced."""
    found = _everything().filter(digest=offers.digest_of(key)).first()
    if found is None:
        raise Gone
    return found


def check_open(invitation: Invitation, *, at: datetime) -> None:
    """Raises InvitationUsed, InvitationExpired or NotOpen."""
    if invitation.accepted_at is not None:
        raise InvitationUsed
    if invitation.expires_at <= at:
        raise InvitationExpired
    if invitation.tenant is not None:
        check_works(invitation.tenant)


def is_for(invitation: Invitation, user: User) -> bool:
    """By the e-mail of a local account; a vouched identity is never found by its e-mail (R12)."""
    is_local = user.voucher_id is None and user.is_active
    return is_local and (user.email or "").lower() == invitation.email.lower()


def account_for(invitation: Invitation) -> User | None:
    return User.objects.filter(email__iexact=invitation.email, voucher_id__isnull=True).first()


def accept(*, key: str, user: User, at: datetime, actor: Actor | None = None) -> Membership | VendorMembership:
    """Join what the link is for, as somebody who has an account."""
    invitation = find(key)
    by = _joining(invitation, actor or Actor(kind=ActorKind.USER, id=user.id, label=str(user)))
    with _accepting(by, invitation):
        return _join(by, invitation, user, at)


def join(*, key: str, name: str, password: str, at: datetime, ip: str | None = None, request_id: str = "") -> Joined:
    """Join with a new account, whose e-mail is the invitation's. Raises InvalidField for a weak password."""
    invitation = find(key)
    check_open(invitation, at=at)
    user = User(email=invitation.email, name=clean_name(name), created_at=at)
    try:
        validate_password(password, user)
    except ValidationError as error:
        raise InvalidField("password", " ".join(error.messages)) from error
    # Slow on purpose, and therefore before any lock.
    user.set_password(password)
    by = _joining(invitation, Actor(kind=ActorKind.USER, id=user.id, ip=ip, request_id=request_id))
    with _accepting(by, invitation):
        return Joined(user=user, membership=_join(by, invitation, user, at))


def check_works(tenant: Tenant, *text: str) -> None:
    """Raises NotOpen for one in which nothing works now."""
    environment = tenant.environment
    if tenant.suspended_at or tenant.deleted_at or environment.suspended_at or environment.deleted_at:
        raise NotOpen(*text)


def snapshot(invitation: Invitation) -> dict[str, object]:
    """By roles, never by e-mail."""
    return {"roles": sorted(role.key for role in invitation.roles.all())}


def _everything() -> QuerySet[Invitation]:
    return Invitation.objects.select_related(
        "vendor",
        "tenant__environment__vendor",
        "sender_membership__user",
        "sender_membership__environment",
        "sender_membership__tenant",
        "sender_vendor_membership__user",
    )


def _accepting(by: Principal, invitation: Invitation) -> AbstractContextManager[None]:
    return changing(
        by,
        "invitation.accepted" if invitation.tenant else "vendor_invitation.accepted",
        target_kind="invitation",
        target_id=invitation.id,
        tenant=invitation.tenant,
        unique={("user_local_email_unique",): AccountExists()},
    )


def _join(by: Principal, invitation: Invitation, user: User, at: datetime) -> Membership | VendorMembership:
    lock(invitation.tenant or invitation.vendor)
    lock(invitation)
    now = _everything().filter(pk=invitation.pk).first()
    if now is None:
        raise Gone
    check_open(now, at=at)
    if not is_for(now, user):
        raise WrongPerson
    if user._state.adding:
        user.save(force_insert=True)
    _lock_member(now, user)
    roles = _decide(now, at)
    Invitation.objects.filter(pk=now.pk).update(accepted_at=at)
    if now.tenant is None:
        return vendor_members.admit(by=by, invitation=now, user=user, at=at)
    _record(by, "invitation.accepted", now, after=snapshot(now))
    return members.admit(by=by, tenant=now.tenant, user=user, roles=roles, at=at)


def _decide(invitation: Invitation, at: datetime) -> list[Role]:
    """The roles that it gives, if its sender could hand them out at this moment; raises InvitationVoid (R3)."""
    by = _sender(invitation)
    try:
        if invitation.tenant is None:
            vendor_members.check_may_still_offer(invitation, by=by)
            return []
        by, grantor = ceiling.grantor_of(by, at=at)
        check_holds(grantor, "members:create")
        offered = Role.objects.filter(invitations=invitation)
        lock_shared(offered)
        roles = list(offered.order_by("level", "key"))
        check_roles(grantor, held_roles(roles).values(), strict=invitation.tenant.environment.strict_ceiling)
    except Refusal as refusal:
        raise InvitationVoid from refusal
    if not roles:  # the role was deleted since
        raise InvitationVoid
    return roles


def _sender(invitation: Invitation) -> Principal:
    """Whoever sent it, as a grantor: what they hold is read anew."""
    return offers.stands_for(
        environment=_environment_of(invitation),
        tenant=invitation.tenant,
        membership=invitation.sender_membership,
        vendor_membership=invitation.sender_vendor_membership,
        token_id=invitation.sender_token_id,
    )


def _joining(invitation: Invitation, actor: Actor) -> Principal:
    return Principal(
        actor=actor, environment=_environment_of(invitation), tenant=invitation.tenant, permissions=frozenset()
    )


def _environment_of(invitation: Invitation) -> Environment:
    """The tenant's; for the vendor's people the first that they are to cover, in whose record a refusal goes."""
    if invitation.tenant is not None:
        return invitation.tenant.environment
    environments = invitation.vendor.environments if invitation.in_all_environments else invitation.environments
    first = environments.select_related("vendor").order_by("created_at", "id").first()
    if first is None:  # erased since
        raise InvitationVoid
    return first


def _lock_member(invitation: Invitation, user: User) -> None:
    rows: QuerySet[Membership] | QuerySet[VendorMembership]
    if invitation.tenant is not None:
        rows = Membership.objects.filter(tenant=invitation.tenant, user=user)
    else:
        rows = VendorMembership.objects.filter(vendor=invitation.vendor, user=user)
    row: Model
    for row in rows:
        lock(row)


def _record(
    by: Principal, verb: str, invitation: Invitation, *, before: Detail | None = None, after: Detail | None = None
) -> None:
    record_change(
        by,
        verb,
        target_kind="invitation",
        target_id=invitation.id,
        tenant=invitation.tenant,
        before=before,
        after=after,
    )
