"""Portal sessions: the vendor's backend opens a tenant's pages for somebody who is signed in to the vendor's product.

Opening one is granting (R3): it hands out all that the person may do here. Who the person is the backend says, by its
own immutable id of them (R12). Locks: the tenant, the member, the grantor, roles.
"""

import secrets
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from accounts.models import User
from apitokens import ceiling, origins, policy
from apitokens.changing import changing, record_change
from apitokens.governance import members, vouched
from apitokens.models import ApiToken, Owner, PortalSession, PortalSessionQuerySet
from apitokens.orders import InvalidField
from apitokens.principals import Principal
from apitokens.querysets import WITH_STANDING
from audit.actors import Actor
from audit.models import ActorKind
from audit.services import Change, Refusal, record, record_each
from tenants.models import Environment, Membership, Role, Tenant
from tenants.policy import Grantor, check_holds
from tenants.queries import lock, lock_shared

LINK_VALID = timedelta(seconds=60)
LONGEST = timedelta(hours=8)
# How exact the time of the last visit is.
SEEN_EVERY = timedelta(minutes=1)
# So many of one person are live in a tenant: each opening in their browser makes one, and the oldest makes room.
MOST_LIVE = 50
SECTIONS = tuple(PortalSession.Section.values)


class OnlyForBackends(Refusal):
    """Nobody but the vendor's own program knows who is signed in to the vendor's product."""

    code = "needs_environment_token"

    def __init__(self) -> None:
        super().__init__(_("Only a token of the environment can open a portal session: your backend's own."))


class MemberSuspended(Refusal):
    """Somebody keeps this person out on purpose: that the vendor still knows them changes nothing about it."""

    code = "member_suspended"

    def __init__(self) -> None:
        super().__init__(_("This person is suspended in the tenant. Reinstate them first."))


class Closed(Exception):
    """The link opens nothing: whether it is used, old or made up is not said (R8)."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the backend asks for. `roles` None leaves a member's as they are; `who` is its own id of the person."""

    who: str
    email: str | None = None
    name: str = ""
    roles: Sequence[str] | None = None
    sections: Sequence[str] = SECTIONS
    return_url: str = ""
    locale: str = ""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """The row beside its link, which is in this one answer."""

    session: PortalSession
    link: str = field(repr=False)


def create(*, by: Principal, tenant: Tenant, wanted: Wanted, at: datetime) -> Opened:
    """A link for that person, who becomes a member if they are none; roles that are given replace those they have."""
    asked = {"roles": list(wanted.roles or ()), "sections": list(wanted.sections)}
    with changing(by, "portal_session.created", target_kind="portal_session", tenant=tenant, asked=asked):
        if by.token is None or by.token.owner != Owner.ENVIRONMENT:
            raise OnlyForBackends
        ceiling.check_reach(by, tenant.environment, tenant, owner=Owner.TENANT)
        lock(tenant)
        tenant = Tenant.objects.select_related("environment").get(pk=tenant.pk)
        word = _word(tenant.environment, wanted)
        was = vouched.known(word)
        user = vouched.identify(word, at=at)
        member = vouched.membership_of(user, tenant)
        by, grantor = ceiling.grantor_of(_on_behalf_of(by, user), at=at, tenant=tenant)
        check_holds(grantor, "portal-sessions:create")
        return_url = wanted.return_url and origins.clean_return_url(
            "return_url", wanted.return_url, tenant.environment.embedding_origins
        )
        member = _admitted(by, grantor, tenant, user, member, wanted, at)
        key = secrets.token_urlsafe(32)
        session = _made(
            by, member, key, at, sections=_clean(wanted.sections), return_url=return_url, locale=wanted.locale
        )
        record_change(
            by,
            "portal_session.created",
            target_kind="portal_session",
            target_id=session.id,
            tenant=tenant,
            after={**snapshot(session), **vouched.changed(was, user)},
        )
        _make_room(by, member, at)
    return Opened(session=session, link=f"{settings.ORIGIN}/embedded/{tenant.environment.slug}/open/{key}/")


def enter(*, key: str, environment: Environment, at: datetime, ip: str | None, request_id: str) -> PortalSession:
    """Uses the link up; raises Closed. Of two who open it at once one gets in."""
    waiting = PortalSession.objects.live(at=at).filter(opened_at__isnull=True, environment=environment)
    session = waiting.filter(digest=digest_of(key)).select_related("membership__user", "tenant").first()
    if session is None:
        raise Closed
    user = session.membership.user
    actor = Actor(kind=ActorKind.USER, id=user.id, label=str(user), ip=ip, request_id=request_id)
    with transaction.atomic():
        unused = PortalSession.objects.filter(pk=session.pk, opened_at__isnull=True)
        if not unused.update(opened_at=at, last_seen_at=at):
            raise Closed
        record(
            actor=actor,
            verb="portal_session.opened",
            target_kind="portal_session",
            target_id=session.id,
            environment_id=session.environment_id,
            tenant_id=session.tenant_id,
        )
    return session


def current(session_id: str, *, environment: Environment, at: datetime) -> PortalSession | None:
    """The open one of that id, if it is one; that it is used is noted."""
    found = PortalSession.objects.if_token_works(at=at).filter(opened_at__isnull=False, environment=environment)
    session = found.select_related("membership__user", "tenant", "environment").filter(pk=session_id).first()
    token = WITH_STANDING.first(pk=session.token_id) if session else None
    if session is None or token is None or not _works(token, at):
        return None
    if session.last_seen_at is not None and at - session.last_seen_at >= SEEN_EVERY:
        PortalSession.objects.filter(pk=session.pk).update(last_seen_at=at)
    return session


def visible(by: Principal, *, at: datetime) -> PortalSessionQuerySet:
    """The live ones of the environment or, for who acts in one tenant, of that."""
    found = PortalSession.objects.live(at=at).filter(environment=by.environment)
    found = found if by.tenant is None else found.filter(tenant=by.tenant)
    return found.select_related("membership__user", "tenant", "token")


def of_person(found: PortalSessionQuerySet, who: str) -> PortalSessionQuerySet:
    """Those of one person, by the backend's own id of them."""
    return found.none() if "\0" in who else found.filter(membership__user__voucher_user_id=who)


def end(*, by: Principal, sessions: QuerySet[PortalSession], at: datetime, target_id: UUID | None = None) -> int:
    """They open nothing any more, opened or not; how many there were."""
    with changing(by, "portal_session.ended", target_kind="portal_session", target_id=target_id, tenant=by.tenant):
        if not by.acts_for_environment:
            raise ceiling.OutOfReach
        by, grantor = ceiling.grantor_of(by, at=at, tenant=by.tenant)
        check_holds(grantor, "portal-sessions:delete")
        return _end(by, list(sessions.values_list("pk", flat=True)))


def snapshot(session: PortalSession) -> dict[str, object]:
    """By ids: who the person is the record does not say."""
    return {"user": str(session.membership.user_id), "sections": list(session.sections)}


def _works(token: ApiToken, at: datetime) -> bool:
    """As `usable` has it in SQL, which takes longer to write than every request should wait."""
    return policy.state(token, policy.effective_permissions(policy.Standing.of(token)), at=at) == policy.State.USABLE


def _word(environment: Environment, wanted: Wanted) -> vouched.Vouched:
    """What the backend says of the person, with an e-mail that is one; raises InvalidField."""
    word = vouched.said(voucher_id=environment.id, who=wanted.who, email=wanted.email or "", name=wanted.name)
    if wanted.email and word.email is None:
        raise InvalidField("user", _("This is no e-mail address, such as ada@example.com."))
    return word


def _on_behalf_of(by: Principal, user: User) -> Principal:
    return replace(by, actor=replace(by.actor, on_behalf_of=user.id))


def _admitted(
    by: Principal,
    grantor: Grantor,
    tenant: Tenant,
    user: User,
    member: Membership | None,
    wanted: Wanted,
    at: datetime,
) -> Membership:
    """The member, as they are to be. Who was removed is a member anew, by the roles that are given; who is suspended
    stays so. What they have and what they get is within the ceiling of the one who asks (R3)."""
    if member is not None and member.ended_at is None and member.suspended_at is not None:
        raise MemberSuspended
    roles = members.granted_roles(grantor, tenant, wanted.roles) if wanted.roles is not None else None
    if roles == [] or (roles is None and (member is None or member.ended_at is not None)):
        raise InvalidField("roles", _("Name at least one role: without one they could do nothing here."))
    if member is None or member.ended_at is not None:
        return members.admit(by=by, tenant=tenant, user=user, roles=roles or [], at=at)
    lock_shared(Role.objects.filter(membership_roles__membership=member))
    members.check_covers(grantor, member)
    if roles is not None:
        members.replace_roles(by=by, grantor=grantor, member=member, roles=roles)
    return member


def _clean(sections: Collection[str]) -> list[str]:
    """In the order of the tabs, and tokens always: what the others show leads to them. Raises InvalidField."""
    if not sections or not set(sections) <= set(SECTIONS):
        raise InvalidField("sections", _("Name one or more of: %(names)s.") % {"names": ", ".join(SECTIONS)})
    return [section for section in SECTIONS if section in {PortalSession.Section.TOKENS, *sections}]


def _made(
    by: Principal,
    member: Membership,
    key: str,
    at: datetime,
    *,
    sections: list[str],
    return_url: str,
    locale: str,
) -> PortalSession:
    """It ends no later than the token that opened it."""
    token = by.token
    if token is None:
        raise OnlyForBackends
    ends_at = min(at + LONGEST, token.expires_at or at + LONGEST)
    return PortalSession.objects.create(
        environment=member.environment,
        tenant=member.tenant,
        membership=member,
        token=token,
        digest=digest_of(key),
        generation=policy.generation(token, member.tenant) + member.generation,
        sections=sections,
        return_url=return_url,
        locale=locale,
        created_at=at,
        link_expires_at=min(at + LINK_VALID, ends_at),
        ends_at=ends_at,
    )


def _make_room(by: Principal, member: Membership, at: datetime) -> None:
    """What time has ended goes without a word, as in housekeeping; what is one too many is ended."""
    of_member = PortalSession.objects.filter(membership=member)
    of_member.over(at=at).delete()
    _end(by, list(of_member.order_by("-created_at", "-id").values_list("pk", flat=True)[MOST_LIVE:]))


def _end(by: Principal, ids: Iterable[UUID]) -> int:
    held = PortalSession.objects.filter(pk__in=ids).order_by("pk").select_for_update(of=("self",))
    sessions = list(held.select_related("membership"))
    if not sessions:
        return 0
    PortalSession.objects.filter(pk__in=[session.pk for session in sessions]).delete()
    record_each(
        actor=by.actor,
        verb="portal_session.ended",
        target_kind="portal_session",
        environment_id=by.environment.id,
        changes=[Change(target_id=row.id, tenant_id=row.tenant_id, before=snapshot(row)) for row in sessions],
    )
    return len(sessions)


def digest_of(key: str) -> bytes:
    return sha256(key.encode()).digest()
