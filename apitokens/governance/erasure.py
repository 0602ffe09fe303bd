"""What is erased for good: people who ask for it, and what has been on hold for as long as it is held.

The record stays as it is, and so do slugs, which are never given out again. Nothing works or stops working by what is
done here: deadlines are computed at use, and by the time something is erased it has long been stopped.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.contrib.sessions.models import Session
from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from accounts import open_sessions
from accounts.models import User
from apitokens.changing import AlreadySo
from apitokens.governance import environments, invitations, members, tenants, vendor_members
from apitokens.models import (
    ApiToken,
    Owner,
    PortalSession,
    RevokedJWT,
    SigningKey,
    StatusCounter,
    StatusSlot,
    TokenType,
    TokenTypeRole,
    UsageHour,
)
from apitokens.principals import Principal, system
from apitokens.services import Gone, tombstone
from audit.actors import SYSTEM, Actor
from audit.services import forget, record
from tenants.models import (
    ApiIdentifier,
    Environment,
    IdentityProvider,
    IdentityProviderRole,
    Invitation,
    InvitationEnvironment,
    InvitationRole,
    Membership,
    MembershipRole,
    Permission,
    Role,
    RolePermission,
    Tenant,
    VendorMembership,
    VendorMembershipEnvironment,
)
from tenants.queries import lock

INVITATIONS_KEPT = timedelta(days=30)
# Rows a transaction erases: few enough that nobody waits long for what it locks.
BATCH = 500


@dataclass(frozen=True, kw_only=True)
class Erased:
    """What was done when a person was erased, counted."""

    memberships: int
    vendor_memberships: int
    tokens: int
    invitations: int
    sessions: int


def erase_user(*, user: User, actor: Actor, at: datetime, force: bool = False) -> Erased:
    """Nothing of the person is left but an id; what they made for others stays and goes on.

    Their memberships end and their personal tokens go, each with its event. Raises LastOwner for the last one who could
    manage a tenant or a vendor, unless forced; AlreadySo for one erased before.
    """
    with transaction.atomic():
        _check_not_erased(user)
        ended = [
            _leave_vendor(member, actor, at, force)
            for member in user.vendor_memberships.select_related("vendor", "user").order_by("vendor", "pk")
        ]
        left = [
            _leave_tenant(member, actor, at, force)
            for member in user.memberships.select_related("tenant", "environment", "user").order_by("tenant", "pk")
        ]
        lock(user)
        _check_not_erased(user)
        withdrawn = _withdraw_invitations(user, actor, at)
        EmailAddress.objects.filter(user=user).delete()
        Authenticator.objects.filter(user=user).delete()
        _pseudonymise(user, at)
        forget([user.id])
        record(
            actor=actor,
            verb="user.erased",
            target_kind="user",
            target_id=user.id,
            environment_id=None,
            tenant_id=None,
        )
    return Erased(
        memberships=len(left),
        vendor_memberships=len(ended),
        tokens=sum(ended) + sum(left),
        invitations=withdrawn,
        sessions=_end_sessions(user),
    )


def erase_due(*, at: datetime) -> int:
    """One round, in batches; the number of rows erased. Any number of workers may do it at once."""
    return (
        _erase_tokens(_of_former_members(at))
        + sum(_erase_tenant(tenant_id) for tenant_id in _due(Tenant, at - tenants.HELD_FOR))
        + sum(_erase_environment(environment_id) for environment_id in _due(Environment, at - environments.HELD_FOR))
        + _erase_rows(_old_invitations(at))
    )


def _check_not_erased(user: User) -> None:
    if User.objects.filter(pk=user.pk, erased_at__isnull=False).exists():
        raise AlreadySo(_("This person is erased already."))


def _leave_tenant(member: Membership, actor: Actor, at: datetime, force: bool) -> int:
    """The number of personal tokens that went."""
    by = system(member.environment, actor=actor)
    lock(member.tenant)
    lock(member)
    if not force and members.is_last_keeper(member):
        raise members.LastOwner
    if Membership.objects.filter(pk=member.pk, ended_at__isnull=True).exists():
        members.remove(by=by, membership=member, at=at)
    return _delete_personal(by, ApiToken.objects.filter(membership=member))


def _leave_vendor(member: VendorMembership, actor: Actor, at: datetime, force: bool) -> int:
    lock(member.vendor)
    lock(member)
    environment = Environment.objects.filter(vendor=member.vendor).select_related("vendor").order_by("pk").first()
    if environment is None:
        return 0
    by = system(environment, actor=actor)
    if VendorMembership.objects.filter(pk=member.pk, ended_at__isnull=True).exists():
        vendor_members.remove(by=by, member=member, at=at, even_the_last=force)
    return sum(
        _delete_personal(system(each, actor=actor), ApiToken.objects.filter(vendor_membership=member, environment=each))
        for each in Environment.objects.filter(vendor=member.vendor).order_by("pk")
    )


def _delete_personal(by: Principal, tokens: QuerySet[ApiToken]) -> int:
    """Also the tokens' names beside the record go: people name theirs after themselves."""
    ids = list(tokens.values_list("pk", flat=True))
    members.delete_each(by, ApiToken.objects.filter(pk__in=ids))
    forget(ids)
    return len(ids)


def _withdraw_invitations(user: User, actor: Actor, at: datetime) -> int:
    """An offer names its e-mail: those to this person go, accepted or not."""
    if not user.email or user.voucher_id is not None:
        return 0
    theirs = Invitation.objects.filter(email__iexact=user.email)
    rows = list(theirs.select_related("vendor", "tenant__environment__vendor").order_by("pk"))
    for invitation in rows:
        tenant = invitation.tenant
        environment = tenant.environment if tenant else invitation.vendor.environments.order_by("pk").first()
        if invitation.accepted_at is not None or environment is None:
            invitation.delete()
            continue
        by, revoke = system(environment, actor=actor), invitations.revoke if tenant else vendor_members.revoke
        with suppress(Gone):  # somebody withdrew or replaced it since
            revoke(by=by, invitation=invitation, at=at)
    return len(rows)


def _pseudonymise(user: User, at: datetime) -> None:
    nobody = f"{user.id}@erased.invalid"
    user.name = user.time_zone = user.language = ""
    if user.voucher_id is None:
        user.email = nobody
    else:
        # So that the voucher's next word of this person is of somebody new.
        user.email, user.voucher_user_id = None, nobody
    user.is_active = user.is_staff = user.is_superuser = False
    user.last_login = None
    user.erased_at = at
    user.set_unusable_password()
    user.save()
    user.groups.clear()
    user.user_permissions.clear()


def _end_sessions(user: User) -> int:
    """They open nothing any more, the account being inactive; they go all the same.

    Those that are in no list, too, and only they know whose they are.
    """
    ended = open_sessions.end_all(user)
    for session in Session.objects.order_by("pk").iterator(chunk_size=BATCH):
        if session.get_decoded().get("_auth_user_id") == str(user.pk):
            session.delete()
            ended += 1
    return ended


def _of_former_members(at: datetime) -> QuerySet[ApiToken]:
    """Personal tokens whose owner left so long ago that coming back would not bring them back."""
    until = at - members.TOKENS_KEPT
    former = Membership.objects.filter(ended_at__lte=until).values("pk")
    former_vendors = VendorMembership.objects.filter(ended_at__lte=until).values("pk")
    return ApiToken.objects.filter(Q(membership__in=former) | Q(vendor_membership__in=former_vendors), owner=Owner.USER)


def _old_invitations(at: datetime) -> QuerySet[Invitation]:
    until = at - INVITATIONS_KEPT
    return Invitation.objects.filter(Q(accepted_at__lte=until) | Q(expires_at__lte=until))


def _due(model: type[Tenant] | type[Environment], until: datetime) -> Sequence[UUID]:
    """Those whose hold is over. The rest of a long list waits for the next round."""
    due = model._default_manager.filter(deleted_at__lte=until).order_by("deleted_at", "pk")
    return list(due.values_list("pk", flat=True)[:BATCH])


class _Elsewhere(Exception):
    """Another worker is erasing this very thing: it is left to that one."""


def _held(rows: QuerySet[Any]) -> list[Any]:
    """At most a batch of them, held exclusively; without those that another worker holds.

    On SQLite nobody else writes while we do.
    """
    skip_locked = connection.vendor == "postgresql"
    return list(rows.order_by("pk").select_for_update(of=("self",), skip_locked=skip_locked)[:BATCH])


def _in_batches(rows: QuerySet[Any], erase: Callable[[list[Any]], int], *, under: QuerySet[Any] | None = None) -> int:
    """Each batch in a transaction of its own, under a lock on what it belongs to; raises _Elsewhere if another has it.

    Workers thus take turns at one tenant by batches, and none goes on to rows that those of another's batch refer to.
    """
    erased = 0
    while True:
        with transaction.atomic():
            if under is not None and not _held(under):
                raise _Elsewhere
            batch = _held(rows)
            if not batch:
                return erased
            erased += erase(batch)


def _erase_tokens(tokens: QuerySet[ApiToken], *, under: QuerySet[Any] | None = None) -> int:
    """For good, each with its tombstone (R6)."""

    def erase(batch: list[ApiToken]) -> int:
        for token in batch:
            record(
                actor=SYSTEM,
                verb="apitoken.deleted",
                target_kind="apitoken",
                target_id=token.id,
                environment_id=token.environment_id,
                tenant_id=token.tenant_id,
                before=tombstone(token),
            )
        forget(token.id for token in batch)
        return _delete(batch)

    return _in_batches(tokens, erase, under=under)


def _erase_rows(rows: QuerySet[Any], *, under: QuerySet[Any] | None = None) -> int:
    return _in_batches(rows, _delete, under=under)


def _delete(batch: list[Any]) -> int:
    """With what hangs on them."""
    return type(batch[0])._default_manager.filter(pk__in=[row.pk for row in batch]).delete()[0]


def _erase_tenant(tenant_id: UUID) -> int:
    """All rows under it, those first that refer to others; then the tenant itself, with the one event of its end."""
    of_it, tenant = {"tenant": tenant_id}, Tenant.objects.filter(pk=tenant_id)
    rows_of_it: tuple[QuerySet[Any], ...] = (
        PortalSession.objects.filter(**of_it),
        IdentityProviderRole.objects.filter(**of_it),
        IdentityProvider.objects.filter(**of_it),
        InvitationRole.objects.filter(**of_it),
        Invitation.objects.filter(Q(**of_it) | Q(sender_membership__tenant=tenant_id)),
        MembershipRole.objects.filter(**of_it),
        Membership.objects.filter(**of_it),
        TokenTypeRole.objects.filter(role__tenant=tenant_id),
        RolePermission.objects.filter(role__tenant=tenant_id),
        Role.objects.filter(**of_it),
    )
    try:
        return (
            _erase_tokens(ApiToken.objects.filter(**of_it), under=tenant)
            + sum(_erase_rows(rows, under=tenant) for rows in rows_of_it)
            + _in_batches(tenant, _end)
        )
    except _Elsewhere:
        return 0


def _erase_environment(environment_id: UUID) -> int:
    of_it, environment = {"environment": environment_id}, Environment.objects.filter(pk=environment_id)
    tenants_of_it = Tenant.objects.filter(**of_it)
    rows_of_it: tuple[QuerySet[Any], ...] = (
        # Before the types, by which it is known until when a key is needed.
        SigningKey.objects.filter(**of_it),
        TokenTypeRole.objects.filter(**of_it),
        TokenType.objects.filter(**of_it),
        RolePermission.objects.filter(**of_it),
        Role.objects.filter(**of_it),
        Permission.objects.filter(**of_it),
        ApiIdentifier.objects.filter(**of_it),
        StatusSlot.objects.filter(**of_it),
        StatusCounter.objects.filter(**of_it),
        RevokedJWT.objects.filter(**of_it),
        UsageHour.objects.filter(**of_it),
        InvitationEnvironment.objects.filter(**of_it),
        VendorMembershipEnvironment.objects.filter(**of_it),
    )
    erased = sum(_erase_tenant(tenant_id) for tenant_id in list(tenants_of_it.values_list("pk", flat=True)))
    if tenants_of_it.exists():
        return erased
    try:
        return (
            erased
            + _erase_tokens(ApiToken.objects.filter(**of_it), under=environment)
            + sum(_erase_rows(rows, under=environment) for rows in rows_of_it)
            + _in_batches(environment, _end)
        )
    except _Elsewhere:
        return erased


def _end(batch: list[Tenant] | list[Environment]) -> int:
    """Slugs stay taken; the record says what was there."""
    for row in batch:
        kind = str(row._meta.model_name)
        record(
            actor=SYSTEM,
            verb=f"{kind}.erased",
            target_kind=kind,
            target_id=row.id,
            environment_id=row.id if isinstance(row, Environment) else row.environment_id,
            tenant_id=row.id if isinstance(row, Tenant) else None,
            before={"name": row.name, "slug": row.slug},
        )
    return _delete(list(batch))
