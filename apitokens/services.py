"""What can be done to a token. Each function is one transaction: the rule, the change and its event, or none of them.

Whether somebody may is decided inside it, under locks: `ceiling` (R3).
"""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.utils.translation import gettext as _

from apitokens import ceiling, credentials, policy, versions
from apitokens.ceiling import Decided
from apitokens.changing import changing, check_version, record_change, version_of
from apitokens.models import ApiToken, ApiTokenRole, IssueNonce, Owner, RevokedJWT, TokenType
from apitokens.orders import (
    UNSET,
    Expiry,
    Grant,
    InvalidField,
    Order,
    Unset,
    clean_beginning,
    clean_description,
    clean_name,
    common_networks,
    name_key,
)
from apitokens.principals import Principal
from apitokens.querysets import WITH_STANDING
from audit.services import Detail, Refusal
from tenants.models import Environment, Role, Tenant
from tenants.policy import UNLIMITED, Grantor, check_holds
from tenants.queries import held_roles, lock, lock_shared

PERMISSION_FAMILY = {
    Owner.ENVIRONMENT: "environment-tokens",
    Owner.TENANT: "apitokens",
    Owner.USER: "personal-apitokens",
}
# How PostgreSQL and SQLite name it in their errors.
NAME_CONSTRAINT = ("apitoken_name_unique_per_owner", "apitokens_apitoken.name_key")


@dataclass(frozen=True)
class Issued:
    """The row beside its secret: two values, one of which cannot be saved, logged or serialised by accident.

    Without a secret if a public key was registered in its place.
    """

    token: ApiToken
    plaintext: str | None = field(repr=False)

    def secret(self) -> str:
        """The plaintext, for whoever ordered one."""
        if self.plaintext is None:
            raise TypeError("a token with a public key has no secret")
        return self.plaintext


class NameTaken(InvalidField):
    code = "name_taken"

    def __init__(self, name: str) -> None:
        super().__init__("name", _("There is a token named %(name)s already: choose another name.") % {"name": name})


class Expired(Refusal):
    code = "expired"

    def __init__(self) -> None:
        super().__init__(_("This token has expired and can't be revived: make a new one."))


class Gone(Refusal):
    """Somebody else deleted the token after the door had found it: to the one who asks, it never was."""

    code = "not_found"
    is_denial = False

    def __init__(self) -> None:
        super().__init__(_("There is no such thing here, or it is not yours."))


class AlreadyIssued(Refusal):
    """The form or the Idempotency-Key was used before (R1). `token` is what it made; None once that is deleted."""

    code = "already_issued"
    is_denial = False

    def __init__(self, token: ApiToken | None) -> None:
        super().__init__(_("This was sent before. Its secret was shown in the first answer only: make a new secret."))
        self.token = token


def issue(*, by: Principal, tenant: Tenant | None, order: Order, at: datetime, nonce: str | None = None) -> Issued:
    """Make a token; its plaintext is returned this once (R1).

    Raises a Refusal: InvalidField for what makes no sense, the ceiling's refusals (R3), QuotaReached, AlreadyIssued.
    """
    ceiling.check_confirmed(by, at=at)
    environment = by.environment
    with changing_token(by, "apitoken.issued", tenant, name=order.name, asked=_asked(order)):
        ceiling.check_reach(by, environment, tenant, owner=order.owner)
        used = claim(by, nonce, "issue", tenant or environment)
        membership = order.membership if order.owner == Owner.USER else None
        lock(membership or tenant or environment)
        by, grantor, decided, token = _drafted(by, tenant, order, at)
        key = versions.public_key_of(order.kind, order.public_key) if order.public_key is not None else None
        _name_publicly(token)
        _apply(token, decided, grantor)
        plaintext = versions.add(token, by, at, public_key=key)
        if used:
            IssueNonce.objects.filter(pk=used.pk).update(token_id=token.id)
        record_on(by, "apitoken.issued", token, after=snapshot(token, decided))
    return Issued(token=token, plaintext=plaintext)


def preview(*, by: Principal, tenant: Tenant | None, order: Order, at: datetime) -> tuple[ApiToken, Decided]:
    """What `issue` would make of the order at this moment, never saved, and what it would be granted.

    Raises what `issue` would raise of what can be known before; nothing is recorded, since nothing was tried.
    """
    with transaction.atomic():
        ceiling.check_reach(by, by.environment, tenant, owner=order.owner)
        _, _, decided, token = _drafted(by, tenant, order, at)
    return token, decided


def _drafted(
    by: Principal, tenant: Tenant | None, order: Order, at: datetime
) -> tuple[Principal, Grantor, Decided, ApiToken]:
    """Who asks and what they hold, under locks; what they may grant of what is ordered; the row as it would be."""
    environment, membership = by.environment, order.membership if order.owner == Owner.USER else None
    by, grantor = ceiling.grantor_of(by, at=at, tenant=tenant)
    token_type = ceiling.token_type_of(environment, order)
    check_holds(grantor, f"{PERMISSION_FAMILY[Owner(order.owner)]}:create")
    ceiling.check_may_make(by, order)
    if membership is not None:
        ceiling.check_still_member(membership)
    decided = ceiling.decide(grantor, token_type, tenant, membership, order.grant)
    ceiling.check_quota(token_type, membership or tenant or environment, at)
    name = clean_name(order.name)
    token = ApiToken(
        environment=environment,
        tenant=tenant,
        membership=membership,
        token_type=token_type,
        owner=order.owner,
        kind=order.kind,
        name=name,
        name_key=name_key(name),
        description=clean_description(order.description),
        creator_id=by.person_id,
        parent=by.token,
        expires_at=ceiling.expiry_of(by.token, token_type, order.expiry, at),
        not_before=clean_beginning(order.not_before, now=at),
        ip_allowlist=ceiling.networks_of(by, token_type, order.ip_allowlist),
        audiences=ceiling.audiences_of(by, environment, order.audiences),
        created_at=at,
    )
    ceiling.check_begins_before_it_ends(token)
    return by, grantor, decided, token


def make_without_secret(
    *,
    by: Principal,
    tenant: Tenant,
    token_type: TokenType,
    role: Role,
    name: str,
    expires_at: datetime | None,
    at: datetime,
) -> ApiToken:
    """A tenant's token that the environment itself grants the role, inside the transaction of whoever calls.

    It has no secret, and so authenticates nobody, until somebody who may makes it a new one (`rotation.rotate`).
    """
    lock_shared(Role.objects.filter(pk=role.pk))
    token = ApiToken(
        environment=tenant.environment,
        tenant=tenant,
        token_type=token_type,
        owner=token_type.owner,
        kind=token_type.kind,
        name=name,
        name_key=name_key(name),
        expires_at=expires_at,
        created_at=at,
    )
    granted = role.permissions.filter(**{ceiling.GRANTABLE[Owner(token_type.owner)]: True})
    decided = Decided(through="roles", granted=frozenset(granted.values_list("key", flat=True)), roles=(role,))
    _name_publicly(token)
    _apply(token, decided, UNLIMITED)
    record_on(by, "apitoken.issued", token, after=snapshot(token, decided))
    return token


def edit(
    *,
    by: Principal,
    token: ApiToken,
    at: datetime,
    name: str | None = None,
    description: str | None = None,
    grant: Grant | None = None,
    expiry: Expiry | None = None,
    ip_allowlist: tuple[str, ...] | None = None,
    audiences: tuple[str, ...] | None = None,
    not_before: datetime | Unset | None = UNSET,
    expected: str | Sequence[str] | None = None,
) -> ApiToken:
    """Change what is given and leave the rest. Widening or extending is granting and passes the same ceiling (R3).

    An empty `ip_allowlist` is every network, empty `audiences` every API of the environment, no `not_before` at once.
    Of `audiences` it may keep what is no API any more; when nothing else is left it is not opened to all at one stroke.
    `expected` is the version that somebody looked at: raises Stale if it is another by now.
    """
    is_granting = (
        any(given is not None for given in (grant, expiry, ip_allowlist, audiences)) or not_before is not UNSET
    )
    with changing_token(by, "apitoken.edited", token.tenant, token, name=name or ""):
        by, token, grantor = locked(by, token, at)
        check_holds(grantor, needs(by, token, "create"))
        ceiling.check_its_owner(by, token)
        if is_granting:
            ceiling.check_may_make(by, token)
            ceiling.check_enabled(token.token_type)
        before = snapshot(token)
        check_version(expected, before)
        if name is not None:
            token.name, token.name_key = (cleaned := clean_name(name)), name_key(cleaned)
        if description is not None:
            token.description = clean_description(description)
        _set_bounds(by, token, at, expiry=expiry, networks=ip_allowlist, audiences=audiences, not_before=not_before)
        if grant is not None:
            _grant_anew(token, grantor, grant)
        elif is_granting:
            ceiling.check_covers(grantor, token)
        if is_granting:
            ceiling.check_no_wider(by, token)
        after = snapshot(token)
        if after != before:
            token.save()
            record_on(by, "apitoken.edited", token, before=before, after=after)
            if any(after[bound] != before[bound] for bound in ("expires_at", "ip_allowlist", "audiences")):
                cap_children(by, token, at=at)
    return token


def _set_bounds(
    by: Principal,
    token: ApiToken,
    at: datetime,
    *,
    expiry: Expiry | None,
    networks: tuple[str, ...] | None,
    audiences: tuple[str, ...] | None,
    not_before: datetime | Unset | None,
) -> None:
    """From when until when, from where and for which APIs: what is given, within what the ceiling allows."""
    if expiry is not None:
        if token.expires_at and token.expires_at <= at:
            raise Expired
        token.expires_at = ceiling.expiry_of(token.parent, token.token_type, expiry, at)
    if networks is not None:
        token.ip_allowlist = ceiling.networks_of(by, token.token_type, networks, parent=token.parent)
    if audiences is not None:
        token.audiences = ceiling.audiences_of(
            by, token.environment, audiences, parent=token.parent, held=token.audiences
        )
    if not_before is not UNSET:
        had_begun = token.not_before is None or token.not_before <= at
        token.not_before = clean_beginning(not_before, now=at)
        # What it got while it worked must not outlive that: no JWT is older than the beginning.
        if had_begun and token.not_before and token.not_before > at:
            token.generation += 1
    ceiling.check_begins_before_it_ends(token)


def _grant_anew(token: ApiToken, grantor: Grantor, grant: Grant) -> None:
    if not grant.roles and not grant.permissions:
        raise InvalidField("roles", _("Name the roles or the permissions that it shall have."))
    decided = ceiling.decide(grantor, token.token_type, token.tenant, token.membership, grant)
    token.token_roles.all().delete()
    _apply(token, decided, grantor)


def take_over(*, by: Principal, token: ApiToken, permissions: Collection[str], at: datetime) -> ApiToken:
    """Give it those permissions that its roles have got since it was granted: granting, as if it were made anew (R3).

    What was left out stays left out. Raises InvalidField for a permission that none of its roles holds.
    """
    with changing_token(by, "apitoken.edited", token.tenant, token, asked={"permissions": sorted(permissions)}):
        by, token, grantor = locked(by, token, at)
        check_holds(grantor, needs(by, token, "create"))
        ceiling.check_its_owner(by, token)
        ceiling.check_may_make(by, token)
        ceiling.check_enabled(token.token_type)
        ceiling.check_no_wider(by, token)
        if token.granted_through != ApiToken.GrantedThrough.ROLES or not permissions:
            raise InvalidField("permissions", _("Its roles have nothing new for it."))
        # Nobody edits a role while we hold the environment (`ceiling.grantor_of`).
        held = held_roles(token.roles.all()).values()
        everything = policy.grantor_with(list(held)).permissions
        if unknown := set(permissions) - everything:
            raise InvalidField(
                "permissions", _("None of its roles holds %(unknown)s.") % {"unknown": ", ".join(sorted(unknown))[:200]}
            )
        without = everything - set(token.granted) - set(permissions)
        grant = Grant(roles=tuple(role.key for role in held), without=tuple(sorted(without)))
        before = snapshot(token)
        decided = ceiling.decide(grantor, token.token_type, token.tenant, token.membership, grant)
        token.token_roles.all().delete()
        _apply(token, decided, grantor)
        record_on(by, "apitoken.edited", token, before=before, after=snapshot(token, decided))
    return token


def disable(*, by: Principal, token: ApiToken, at: datetime) -> ApiToken:
    """Stop it at once; reversible. JWTs issued until now stay dead even after it is enabled again (R5)."""
    with changing_token(by, "apitoken.disabled", token.tenant, token):
        by, token, grantor = locked(by, token, at)
        check_holds(grantor, needs(by, token, "delete"))
        if token.disabled_at is None:
            token.disabled_at = at
            ApiToken.objects.filter(pk=token.pk).update(disabled_at=at, generation=F("generation") + 1)
            record_on(by, "apitoken.disabled", token)
    return token


def enable(*, by: Principal, token: ApiToken, at: datetime) -> ApiToken:
    """Let it work again: granting, so whoever enables it must be able to hand out all it may do (R3)."""
    with changing_token(by, "apitoken.enabled", token.tenant, token):
        by, token, grantor = locked(by, token, at)
        check_holds(grantor, needs(by, token, "create"))
        ceiling.check_may_make(by, token)
        if token.disabled_at is not None:
            ceiling.check_covers(grantor, token)
            ceiling.check_within_type(grantor, token, at=at)
            ceiling.check_no_wider(by, token)
            ceiling.check_no_wider_than_parent(token)
            token.disabled_at = None
            ApiToken.objects.filter(pk=token.pk).update(disabled_at=None)
            record_on(by, "apitoken.enabled", token)
    return token


def end_jwts(*, by: Principal, token: ApiToken, at: datetime) -> ApiToken:
    """Every JWT it has got until now is dead; the token itself goes on and gets new ones (R5)."""
    with changing_token(by, "apitoken.jwts_ended", token.tenant, token):
        by, token, grantor = locked(by, token, at)
        check_holds(grantor, needs(by, token, "delete"))
        ApiToken.objects.filter(pk=token.pk).update(generation=F("generation") + 1)
        record_on(by, "apitoken.jwts_ended", token)
    return token


def revoke_jwt(*, by: Principal, token: ApiToken, jti: str, expires_at: datetime) -> None:
    """One JWT of the token is dead before its time (RFC 7009). It takes no permission: its own client asks.

    A second time changes nothing and is no event.
    """
    with changing_token(by, "apitoken.jwt_revoked", token.tenant, token):
        _check_itself(by, token)
        _, is_new = RevokedJWT.objects.get_or_create(
            environment=token.environment, jti=jti, defaults={"expires_at": expires_at}
        )
        if is_new:
            after = {"jti": jti, "expires_at": expires_at.isoformat()}
            record_on(by, "apitoken.jwt_revoked", token, after=after)


def delete(*, by: Principal, token: ApiToken, at: datetime, as_compromised: bool = False) -> None:
    """The row and its digests go, for good; the record keeps a tombstone (R6). Stopping a leak never needs rank.

    Of a compromised one also what it made, and what that made: whoever had it may have made them (R13).
    """
    ceiling.check_confirmed(by, at=at)
    with changing_token(by, "apitoken.deleted", token.tenant, token):
        by, token, grantor = locked(by, token, at)
        check_holds(grantor, needs(by, token, "delete"))
        if as_compromised:
            _delete_children(by, token)
        record_on(by, "apitoken.deleted", token, before=tombstone(token))
        token.delete()


def revoke_itself(*, by: Principal, token: ApiToken, at: datetime) -> None:
    """Deleted by whoever holds it (RFC 7009): possession is enough, it takes no permission. There is no undo (R6).

    Also where its tenant or environment waits to be erased: if that is restored, the token must not come back with it.
    """
    with changing_token(by, "apitoken.deleted", token.tenant, token):
        _check_itself(by, token)
        by, token, _ = locked(by, token, at, even_if_deleted=True)
        record_on(by, "apitoken.deleted", token, before=tombstone(token))
        token.delete()


def _check_itself(by: Principal, token: ApiToken) -> None:
    if by.token is None or by.token.pk != token.pk:
        raise ceiling.OutOfReach


def changing_token(
    by: Principal,
    verb: str,
    tenant: Tenant | None,
    token: ApiToken | None = None,
    *,
    name: str = "",
    asked: Detail | None = None,
) -> AbstractContextManager[None]:
    return changing(
        by,
        verb,
        target_kind="apitoken",
        target_id=token.id if token else None,
        tenant=tenant,
        asked=asked,
        unique={NAME_CONSTRAINT: NameTaken(name.strip())},
    )


def record_on(
    by: Principal, verb: str, token: ApiToken, *, before: Detail | None = None, after: Detail | None = None
) -> None:
    record_change(by, verb, target_kind="apitoken", target_id=token.id, tenant=token.tenant, before=before, after=after)


def claim(by: Principal, nonce: str | None, act: str, on: Environment | Tenant | ApiToken) -> IssueNonce | None:
    """Use the nonce up, or raise AlreadyIssued. A concurrent second use waits here for the first to commit.

    The same word for another act, or on something else, is another nonce.
    """
    actor_id = by.actor.id
    if not nonce or actor_id is None:
        return None
    digest = sha256(f"{act} {on.pk} {nonce}".encode()).digest()
    try:
        with transaction.atomic():
            return IssueNonce.objects.create(actor_id=actor_id, digest=digest)
    except IntegrityError as error:
        used = IssueNonce.objects.get(actor_id=actor_id, digest=digest)
        made = ApiToken.objects.filter(pk=used.token_id).first() if used.token_id else None
        raise AlreadyIssued(made) from error


def locked(
    by: Principal, token: ApiToken, at: datetime, *, even_if_deleted: bool = False
) -> tuple[Principal, ApiToken, Grantor]:
    """Who asks, the token, held exclusively, and the grantor, all as they are now; in the one order of locks."""
    if token.owner != Owner.USER or token.tenant is not None:
        ceiling.check_reach(by, token.environment, token.tenant, owner=token.owner)
    lock(token.membership or token.tenant or token.environment)
    by, grantor = ceiling.grantor_of(by, at=at, tenant=token.tenant, even_if_deleted=even_if_deleted)
    lock_shared(TokenType.objects.filter(pk=token.token_type_id))
    lock(token)
    now = WITH_STANDING.first(pk=token.pk)
    if now is None:
        raise Gone
    return by, now, grantor


def needs(by: Principal, token: ApiToken, act: str) -> str:
    """The permission that the act takes. Whoever may end a membership may stop the personal tokens that go with it."""
    if token.owner == Owner.USER and act != "create" and not by.acts_for_environment and not is_own(by, token):
        return f"members:{act}"
    return f"{PERMISSION_FAMILY[Owner(token.owner)]}:{act}"


def is_own(by: Principal, token: ApiToken) -> bool:
    """Whether it is a personal token of the very member who acts, themselves or by another token of theirs."""
    return by.is_system or (by.member is not None and token.membership_id == by.member.pk)


def cap_children(by: Principal, token: ApiToken, *, at: datetime) -> None:
    """What a token made, and what that made in turn, is never wider than it (R13): narrowing it narrows them.

    One that is left without any time, network or API is disabled: nothing stands for "none" in those fields.
    """
    bounds = Q(pk__in=[])
    if token.expires_at is not None:
        bounds |= Q(expires_at__isnull=True) | Q(expires_at__gt=token.expires_at)
    if token.ip_allowlist or token.audiences:
        bounds = Q()
    parents = {token.pk: token}
    while parents:
        wider = [
            (child, parents[child.parent_id])
            for child in _locked_children(list(parents), bounds)
            if child.parent_id and ceiling.is_wider(child, than=parents[child.parent_id])
        ]
        for child, parent in wider:
            _narrow(by, child, parent, at)
        parents = {child.pk: child for child, _ in wider}


def _narrow(by: Principal, child: ApiToken, parent: ApiToken, at: datetime) -> None:
    before, was_disabled, generation = snapshot(child), child.disabled_at is not None, child.generation
    if parent.expires_at is not None and (child.expires_at is None or child.expires_at > parent.expires_at):
        end_at(child, parent.expires_at, now=at)
    if parent.ip_allowlist:
        networks = common_networks(child.ip_allowlist or parent.ip_allowlist, parent.ip_allowlist)
        child.ip_allowlist = networks or parent.ip_allowlist
        if not networks:
            child.disabled_at = child.disabled_at or at
    if parent.audiences:
        audiences = sorted(set(child.audiences or parent.audiences) & set(parent.audiences))
        child.audiences = audiences or parent.audiences
        if not audiences:
            child.disabled_at = child.disabled_at or at
    if child.disabled_at and not was_disabled:
        child.generation = generation + 1
        record_on(by, "apitoken.disabled", child)
    child.save(update_fields=["expires_at", "not_before", "ip_allowlist", "audiences", "disabled_at", "generation"])
    if (after := snapshot(child)) != before:
        record_on(by, "apitoken.edited", child, before=before, after=after)


def end_at(token: ApiToken, moment: datetime, *, now: datetime) -> bool:
    """Let it expire earlier; whether that disables it, as it would not even have begun by then. The caller saves it."""
    token.expires_at = moment
    if token.not_before is None or token.not_before < moment:
        return False
    token.not_before = None
    if token.disabled_at is not None:
        return False
    token.disabled_at, token.generation = now, token.generation + 1
    return True


def _delete_children(by: Principal, token: ApiToken) -> None:
    """Generation by generation: how many there are, a thief may have chosen."""
    descendants: list[ApiToken] = []
    generation = [token.pk]
    while generation:
        children = _locked_children(generation)
        descendants += children
        generation = [child.pk for child in children]
    for child in reversed(descendants):
        record_on(by, "apitoken.deleted", child, before=tombstone(child))
        child.delete()


def _locked_children(parents: list[UUID], which: Q | None = None) -> list[ApiToken]:
    found = ApiToken.objects.select_for_update(of=("self",), no_key=True).select_related("tenant")
    return list(found.filter(which or Q(), parent__in=parents).order_by("pk"))


def _name_publicly(token: ApiToken) -> None:
    token.token_id = credentials.new_token_id()
    token.client_id = f"{token.environment.token_prefix}_{token.token_id}"


def _apply(token: ApiToken, decided: Decided, grantor: Grantor) -> None:
    """Fix what was decided: the keys and the grantor's level (none for the vendor and the system) (R4)."""
    token.granted_through = decided.through
    token.granted = sorted(decided.granted)
    token.grantor_level = None if grantor.is_unlimited else grantor.level
    token.save()
    scope_id = token.tenant_id or token.environment_id
    ApiTokenRole.objects.bulk_create(
        ApiTokenRole(
            token=token,
            role=role,
            environment_id=token.environment_id,
            kind=token.kind,
            scope_id=scope_id,
            role_scope_id=role.scope_id,
        )
        for role in decided.roles
    )


def _asked(order: Order) -> Detail:
    return {
        "name": order.name,
        "owner": order.owner,
        "kind": order.kind,
        "roles": list(order.grant.roles),
        "permissions": list(order.grant.permissions),
    }


def version(token: ApiToken) -> str:
    """What stands for the token as it can be edited, now and no more once it was."""
    return version_of(snapshot(token))


def snapshot(token: ApiToken, decided: Decided | None = None) -> dict[str, object]:
    roles = decided.roles if decided else token.roles.all()
    return {
        "name": token.name,
        "description": token.description,
        "owner": token.owner,
        "kind": token.kind,
        "granted_through": token.granted_through,
        "granted": token.granted,
        "roles": sorted(role.key for role in roles),
        "ip_allowlist": token.ip_allowlist,
        "audiences": token.audiences,
        "not_before": token.not_before.isoformat() if token.not_before else None,
        "expires_at": token.expires_at.isoformat() if token.expires_at else None,
    }


def tombstone(token: ApiToken) -> dict[str, object]:
    """What the record keeps of a token that is gone."""
    live = token.secrets.filter(slot__isnull=False).order_by("-created_at", "-id").first()
    return {
        "token_id": token.token_id,
        "name": token.name,
        "owner": token.owner,
        **(live.known_as if live else {"last_four": ""}),
        "creator": str(token.creator_id) if token.creator_id else None,
    }
