"""A tenant's single sign-on: the OpenID Connect provider that vouches for its people, and whom it lets in (R12).

A provider is its issuer: whoever another one calls by the same `sub` is somebody else. So the issuer of one that is set
up stays, and who wants another one removes it first. What newcomers get is granted (R3): decided when it is chosen, and
again when somebody comes, on what the chooser may hand out at that moment.

Locks: the tenant, the member, the grantor, roles. The provider's row is changed under the tenant's alone.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID, uuid5

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from accounts import open_sessions, openid, sealing
from accounts.models import User
from apitokens import ceiling
from apitokens.changing import changing, check_version, record_change
from apitokens.governance import invitations, members, offers, vouched
from apitokens.governance.members import LastOwner
from apitokens.models import Owner
from apitokens.orders import InvalidField
from apitokens.principals import Principal
from apitokens.services import Gone
from audit.actors import Actor
from audit.models import ActorKind
from audit.services import Detail, Refusal
from audit.words import later
from tenants.models import IdentityProvider, IdentityProviderRole, Membership, Role, Tenant
from tenants.policy import Grantor, check_holds, check_roles
from tenants.queries import held_roles, is_strict, lock, lock_shared

CLIENT_ID_MAX, SECRET_MAX = 255, 1024
WITH_CHOOSER = (
    "tenant__environment", "chosen_by_membership__user", "chosen_by_vendor_membership__user",
)  # fmt: skip
# How far apart the provider's clock and ours may be when it says that somebody has just signed in.
CLOCKS = timedelta(seconds=openid.LEEWAY)


class NotFromOutside(Refusal):
    """Who makes it the only way in has come that way, so that it is known to work, and that they can undo it."""

    code = "sign_in_with_it_first"
    field = "enforced"

    def __init__(self) -> None:
        super().__init__(_("Sign in with single sign-on yourself first: then you can make it the only way in."))


class NobodyLeft(LastOwner):
    """Those who could manage members would have no way in."""

    def __init__(self) -> None:
        super().__init__()
        self.args = (
            _("Nobody who manages members could sign in any more. Give somebody who can as high a role first."),
        )


class NoEntry(Refusal):
    """The provider vouches for somebody whom we let in no more, or not yet."""

    code = "no_entry"


class AnotherPerson(Refusal):
    """Somebody was to show again who they are, and somebody else did, or nobody lately."""

    code = "another_person"


@dataclass(frozen=True, kw_only=True)
class Came:
    """Somebody for whom the provider has just vouched."""

    user: User
    membership: Membership
    proven_at: datetime | None


def configure(
    *,
    by: Principal,
    tenant: Tenant,
    issuer: str,
    client_id: str,
    roles: Sequence[str],
    at: datetime,
    client_secret: str | None = None,
    is_enforced: bool | None = None,
    expected: str | Sequence[str] | None = None,
) -> IdentityProvider:
    """Set the tenant's provider up, or change it; newcomers get these roles, named by key or id.

    Without a secret the one that is stored stays, as long as the client does; without `is_enforced` that stays. The
    provider is asked, before any lock is taken, when its issuer is new.
    """
    ceiling.check_confirmed(by, at=at)
    asked = {"issuer": issuer, "client_id": client_id, "roles": list(roles), "enforced": is_enforced}
    if by.holds("sso:create"):
        issuer = _known_issuer(tenant, issuer)
    with _changing(by, "sso.configured", tenant, asked):
        ceiling.check_reach(by, tenant.environment, tenant, owner=Owner.TENANT)
        lock(tenant)
        by, grantor = ceiling.grantor_of(by, at=at, tenant=tenant)
        check_holds(grantor, "sso:create")
        provider = provider_of(tenant)
        if provider is not None and provider.issuer != issuer:  # set up while this one was asked
            raise _another_issuer()
        before = snapshot(provider) if provider else None
        check_version(expected, before or {})
        granted = _granted(grantor, tenant, roles)
        provider = provider or IdentityProvider(tenant=tenant, environment_id=tenant.environment_id, created_at=at)
        kept = _keepers_level(tenant, grantor)
        _fill(provider, issuer, client_id, client_secret, at)
        _enforce(by, provider, is_enforced)
        provider = _choose(by, provider, granted)
        _check_kept(tenant, kept)
        after = snapshot(provider)
        if after != before:
            _record(by, "sso.changed" if before else "sso.configured", tenant, before, after)
    return provider


def enforce(
    *, by: Principal, tenant: Tenant, is_enforced: bool, at: datetime, expected: str | Sequence[str] | None = None
) -> IdentityProvider:
    """Make it the only way in for people, or let those who sign in here in as well. Nobody's roles change by it."""
    ceiling.check_confirmed(by, at=at)
    with _changing(by, "sso.changed", tenant, {"enforced": is_enforced}):
        by, grantor, provider = _locked(by, tenant, at)
        check_holds(grantor, "sso:create")
        before = snapshot(provider)
        check_version(expected, before)
        kept = _keepers_level(tenant, grantor)
        _enforce(by, provider, is_enforced)
        provider.save(update_fields=["is_enforced"])
        _check_kept(tenant, kept)
        if (after := snapshot(provider)) != before:
            _record(by, "sso.changed", tenant, before, after)
    return provider


def remove(*, by: Principal, tenant: Tenant, at: datetime, expected: str | Sequence[str] | None = None) -> None:
    """Nobody signs in by it any more, and whoever did is signed out. Their memberships stay, and so do their tokens."""
    ceiling.check_confirmed(by, at=at)
    with _changing(by, "sso.removed", tenant):
        by, grantor, provider = _locked(by, tenant, at)
        check_holds(grantor, "sso:delete")
        before = snapshot(provider)
        check_version(expected, before)
        kept = _keepers_level(tenant, grantor)
        provider.delete()
        _check_kept(tenant, kept)
        open_sessions.end_vouched(voucher_of(tenant, str(before["issuer"])))
        _record(by, "sso.removed", tenant, before, None)


def admit(
    *,
    tenant: Tenant,
    voucher_id: UUID,
    identity: openid.Identity,
    at: datetime,
    ip: str | None = None,
    request_id: str = "",
) -> Came:
    """Let in whom the provider names: a member by the membership they have, somebody new as a new member.

    Nobody is found by an e-mail, and no membership of anybody else's is opened (R12). Signing in revives nothing: who
    was suspended or removed stays so. Raises NoEntry and NotOpen.
    """
    word = _word(voucher_id, identity)
    was = vouched.known(word)
    actor = Actor(kind=ActorKind.SYSTEM, ip=ip, request_id=request_id)
    if was is not None:
        actor = replace(actor, kind=ActorKind.USER, id=was.id, label=str(was))
    by = Principal(actor=actor, environment=tenant.environment, tenant=tenant, permissions=frozenset())
    with _changing(by, "sso.admitted", tenant):
        lock(tenant)
        provider = _still(tenant, voucher_id)
        user = vouched.identify(word, at=at)
        by = replace(by, actor=Actor(kind=ActorKind.USER, id=user.id, label=str(user), ip=ip, request_id=request_id))
        member = vouched.membership_of(user, tenant)
        if member is None:
            roles = _newcomers_roles(provider, at)
            member = members.admit(by=by, tenant=tenant, user=user, roles=roles, at=at)
        elif member.ended_at is not None:
            raise NoEntry(_("You were removed from this tenant. One of its administrators can let you in again."))
        elif member.suspended_at is not None:
            raise NoEntry(_("You are suspended here. Ask one of the tenant's administrators."))
        elif told := vouched.changed(was, user):
            _record(by, "sso.admitted", tenant, None, told)
    return Came(user=user, membership=member, proven_at=identity.authenticated_at)


def readmit(*, by: Principal, membership: Membership, at: datetime) -> Membership:
    """Let somebody whom the provider vouches for, and who was removed, in again as if they were new: granting (R3)."""
    tenant = membership.tenant
    with _changing(by, "membership.resumed", tenant):
        ceiling.check_reach(by, tenant.environment, tenant, owner=Owner.TENANT)
        lock(tenant)
        lock(membership)
        by, grantor, provider = _locked(by, tenant, at)
        check_holds(grantor, "members:create")
        found = removed(provider).filter(pk=membership.pk).first()
        if found is None:
            raise Gone
        roles = _granted(grantor, tenant, [str(role.id) for role in provider.roles.all()])
        return members.admit(by=by, tenant=tenant, user=found.user, roles=roles, at=at)


def check_same(*, user: User, voucher_id: UUID, identity: openid.Identity, asked_at: datetime) -> datetime:
    """When the very person showed their provider again who they are; raises AnotherPerson.

    A provider that was asked for it and does not say when has shown nothing.
    """
    if (user.voucher_id, user.voucher_user_id) != (voucher_id, identity.sub):
        raise AnotherPerson(_("Somebody else signed in there than the one who is signed in here."))
    if identity.authenticated_at is None or identity.authenticated_at < asked_at - CLOCKS:
        raise AnotherPerson(
            _("Your identity provider did not confirm that you have just signed in there. Its administrator can help.")
        )
    return identity.authenticated_at


def provider_of(tenant: Tenant) -> IdentityProvider | None:
    found = IdentityProvider.objects.filter(tenant=tenant).select_related(*WITH_CHOOSER).prefetch_related("roles")
    return found.first()


def vouching_for(user: User) -> IdentityProvider | None:
    """The provider by which that person signs in, while there is one."""
    if user.voucher_id is None:
        return None
    return IdentityProvider.objects.filter(voucher_id=user.voucher_id).select_related("tenant").first()


def voucher_of(tenant: Tenant, issuer: str) -> UUID:
    """Stands for that issuer in that tenant, so that it vouches for the same people when it is set up once more."""
    return uuid5(tenant.id, issuer)


def removed(provider: IdentityProvider) -> QuerySet[Membership]:
    """Those for whom it vouches and who were removed, the latest first; of the erased nobody is left to let in."""
    theirs = Membership.objects.filter(tenant=provider.tenant_id, user__voucher_id=provider.voucher_id)
    ended = theirs.filter(ended_at__isnull=False, user__is_active=True)
    return ended.select_related("user", "tenant__environment", "environment").order_by("-ended_at", "-id")


def redirect_uri(tenant: Tenant) -> str:
    """What the provider is to send people back to."""
    return f"{settings.ORIGIN}/t/{tenant.slug}/sign-in/callback/"


def sign_in_address(tenant: Tenant) -> str:
    """Where its people begin; to be linked to, and bookmarked."""
    return f"{settings.ORIGIN}/t/{tenant.slug}/sign-in/"


def client_of(provider: IdentityProvider) -> openid.Client:
    """Who we are there, with the secret; raises ProviderError when no key-encryption key opens it (R11)."""
    try:
        secret = sealing.unseal(provider.sealed_secret.encode(), settings.KEY_ENCRYPTION_KEYS).decode()
    except sealing.SealUnreadable as error:
        raise openid.ProviderError(later("The client secret that is stored can't be read: enter it again.")) from error
    return openid.Client(
        issuer=provider.issuer,
        client_id=provider.client_id,
        secret=secret,
        redirect_uri=redirect_uri(provider.tenant),
    )


def why_no_newcomers(provider: IdentityProvider, *, at: datetime) -> str:
    """Why somebody new would get nothing at this moment; empty if they would be let in."""
    try:
        with transaction.atomic():
            _newcomers_roles(provider, at)
    except Refusal as refusal:
        return str(refusal.__cause__ or refusal)
    return ""


def snapshot(provider: IdentityProvider) -> dict[str, object]:
    """As the record and the version know it; of the secret when it was set."""
    return {
        "issuer": provider.issuer,
        "client_id": provider.client_id,
        "secret_set_at": provider.secret_set_at.isoformat(),
        "roles": sorted(role.key for role in provider.roles.all()),
        "enforced": provider.is_enforced,
    }


@dataclass(frozen=True)
class Wrapping:
    """How many client secrets are under another key-encryption key than the first, and how many under none we have."""

    under_old: int = 0
    unreadable: int = 0


def wrapping() -> Wrapping:
    under_old = unreadable = 0
    for sealed in IdentityProvider.objects.values_list("sealed_secret", flat=True).iterator():
        try:
            under_old += sealing.reseal(sealed.encode(), settings.KEY_ENCRYPTION_KEYS) is not None
        except sealing.SealUnreadable:
            unreadable += 1
    return Wrapping(under_old, unreadable)


def reencrypt() -> int:
    """Put every client secret that can be opened under the first key-encryption key; how many were not."""
    return sum(_reencrypt(pk) for pk in list(IdentityProvider.objects.order_by("pk").values_list("pk", flat=True)))


def _reencrypt(pk: UUID) -> bool:
    with transaction.atomic():
        row = IdentityProvider.objects.select_for_update(of=("self",)).filter(pk=pk).first()
        try:
            sealed = row and sealing.reseal(row.sealed_secret.encode(), settings.KEY_ENCRYPTION_KEYS)
        except sealing.SealUnreadable:
            return False
        if row and sealed:
            row.sealed_secret = sealed.decode()
            row.save(update_fields=["sealed_secret"])
        return bool(sealed)


def _another_issuer() -> InvalidField:
    text = _("Another issuer vouches for other people: remove this single sign-on first, then set up the other.")
    return InvalidField("issuer", text)


def _known_issuer(tenant: Tenant, issuer: str) -> str:
    """As the provider itself writes it. Another one than the tenant's can't take its place."""
    issuer = issuer.strip()
    provider = provider_of(tenant)
    if provider is not None:
        if issuer.rstrip("/") != provider.issuer.rstrip("/"):
            raise _another_issuer()
        return provider.issuer
    if not issuer:
        raise InvalidField("issuer", _("Give the provider's issuer, the address under which it describes itself."))
    if len(issuer) > openid.ISSUER_MAX or "?" in issuer or "#" in issuer:
        raise InvalidField(
            "issuer",
            _("An issuer is an address of at most %(most)s characters, without a query.") % {"most": openid.ISSUER_MAX},
        )
    try:
        return openid.discover(issuer).issuer
    except openid.ProviderError as error:
        text = _("There is no OpenID Connect provider to be found there. %(why)s") % {"why": error}
        raise InvalidField("issuer", text) from error


def _fill(provider: IdentityProvider, issuer: str, client_id: str, secret: str | None, at: datetime) -> None:
    client_id, secret = client_id.strip(), (secret or "").strip()
    if not 1 <= len(client_id) <= CLIENT_ID_MAX or not client_id.isprintable():
        raise InvalidField(
            "client_id", _("Give the client id, 1 to %(most)s visible characters.") % {"most": CLIENT_ID_MAX}
        )
    if not secret and (not provider.sealed_secret or client_id != provider.client_id):
        raise InvalidField("client_secret", _("Give the secret of this client: it is stored encrypted, never shown."))
    if len(secret) > SECRET_MAX or not secret.isprintable():
        raise InvalidField(
            "client_secret", _("A secret has at most %(most)s visible characters.") % {"most": SECRET_MAX}
        )
    provider.issuer, provider.client_id = issuer, client_id
    provider.voucher_id = voucher_of(provider.tenant, issuer)
    if secret:
        provider.sealed_secret = sealing.seal(secret.encode(), settings.KEY_ENCRYPTION_KEYS).decode()
        provider.secret_set_at = at


def _enforce(by: Principal, provider: IdentityProvider, is_enforced: bool | None) -> None:
    """Raises NotFromOutside. To open the other way again takes no more than the permission."""
    if is_enforced is None or is_enforced == provider.is_enforced:
        return
    came_by_it = by.membership is not None and by.membership.user.voucher_id == provider.voucher_id
    if is_enforced and not (came_by_it or by.is_system):
        raise NotFromOutside
    provider.is_enforced = is_enforced


def _choose(by: Principal, provider: IdentityProvider, roles: Sequence[Role]) -> IdentityProvider:
    """Who saves it has chosen the roles, whether or not they are others than before; the row as it is then."""
    provider.chosen_by_membership = by.membership
    provider.chosen_by_vendor_membership = by.vendor_membership
    provider.chosen_by_token_id = by.token.id if by.token else None
    provider.save()
    provider.provider_roles.all().delete()
    IdentityProviderRole.objects.bulk_create(
        IdentityProviderRole(
            provider=provider,
            role=role,
            tenant_id=provider.tenant_id,
            environment_id=provider.environment_id,
            role_scope_id=role.scope_id,
        )
        for role in roles
    )
    return IdentityProvider.objects.select_related(*WITH_CHOOSER).prefetch_related("roles").get(pk=provider.pk)


def _granted(grantor: Grantor, tenant: Tenant, roles: Sequence[str]) -> list[Role]:
    if not roles:
        raise InvalidField("roles", _("Choose at least one role: a member without one can do nothing."))
    return members.granted_roles(grantor, tenant, roles)


def _newcomers_roles(provider: IdentityProvider, at: datetime) -> list[Role]:
    """What somebody new gets, if the chooser could hand it out at this moment; raises NoEntry (R3)."""
    by = offers.stands_for(
        environment=provider.tenant.environment,
        tenant=provider.tenant,
        membership=provider.chosen_by_membership,
        vendor_membership=provider.chosen_by_vendor_membership,
        token_id=provider.chosen_by_token_id,
    )
    nothing = _("Nobody new can join by single sign-on at the moment: an administrator of the tenant has to renew it.")
    try:
        by, grantor = ceiling.grantor_of(by, at=at)
        check_holds(grantor, "sso:create")
        chosen = Role.objects.filter(identity_providers=provider)
        lock_shared(chosen)
        roles = list(chosen.order_by("level", "key"))
        check_roles(grantor, held_roles(roles).values(), strict=is_strict(provider.tenant.environment))
    except Refusal as refusal:
        raise NoEntry(nothing) from refusal
    if not roles:  # the role was deleted since
        raise NoEntry(nothing)
    return roles


def _word(voucher_id: UUID, identity: openid.Identity) -> vouched.Vouched:
    return vouched.said(voucher_id=voucher_id, who=identity.sub, email=identity.email, name=identity.name)


def _still(tenant: Tenant, voucher_id: UUID) -> IdentityProvider:
    """The provider that the person was sent to, if it is the tenant's still; asked under the lock on the tenant."""
    provider = provider_of(tenant)
    if provider is None or provider.voucher_id != voucher_id:
        raise NoEntry(_("The single sign-on of this tenant was changed while you signed in. Try again."))
    now = Tenant.objects.select_related("environment").get(pk=tenant.pk)
    invitations.check_works(now, _("Nobody can sign in to this tenant at the moment: it is suspended."))
    return provider


def _locked(by: Principal, tenant: Tenant, at: datetime) -> tuple[Principal, Grantor, IdentityProvider]:
    ceiling.check_reach(by, tenant.environment, tenant, owner=Owner.TENANT)
    lock(tenant)
    by, grantor = ceiling.grantor_of(by, at=at, tenant=tenant)
    provider = provider_of(tenant)
    if provider is None:
        raise Gone
    return by, grantor, provider


def _keepers_level(tenant: Tenant, grantor: Grantor) -> int | None:
    """The highest level of those who manage members and can sign in; None where that is the vendor's to say."""
    if grantor.is_unlimited:
        return None
    return max((level for _pk, level in members.keepers(tenant.pk)), default=None)


def _check_kept(tenant: Tenant, kept: int | None) -> None:
    """Raises NobodyLeft when a change would shut them all out."""
    if kept is not None and not members.keepers(tenant.pk):
        raise NobodyLeft


def _changing(by: Principal, verb: str, tenant: Tenant, asked: Detail | None = None) -> AbstractContextManager[None]:
    return changing(by, verb, target_kind="tenant", target_id=tenant.id, tenant=tenant, asked=asked)


def _record(by: Principal, verb: str, tenant: Tenant, before: Detail | None, after: Detail | None) -> None:
    record_change(by, verb, target_kind="tenant", target_id=tenant.id, tenant=tenant, before=before, after=after)
