"""What can be done to a token. Each function is one transaction: the rule, the change and its event, or none of them.

R3 is decided inside it, under locks taken in one order: the quota's owner (exclusive), the grantor (shared), roles
(shared). A demotion or a role edit takes its row exclusively, so whichever comes second sees the other's result.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F

from apitokens import credentials, policy
from apitokens.models import ApiToken, ApiTokenRole, IssueNonce, Kind, Owner, Secret, TokenType
from apitokens.orders import (
    Expiry,
    Grant,
    InvalidField,
    Order,
    clean_description,
    clean_name,
    clean_networks,
    lies_within,
)
from apitokens.principals import Principal
from audit.services import Detail, Refusal, record, refusals_recorded
from tenants.models import Environment, Membership, Permission, Role, Tenant
from tenants.policy import POWERLESS, UNLIMITED, Grantor, HeldRole, check_holds, check_permissions, check_roles
from tenants.queries import available_roles, grantor_of_membership, held_roles, lock, lock_shared

PERMISSION_FAMILY = {
    Owner.ENVIRONMENT: "environment-tokens",
    Owner.TENANT: "apitokens",
    Owner.USER: "personal-apitokens",
}
GRANTABLE = {
    Owner.ENVIRONMENT: "for_environment_tokens",
    Owner.TENANT: "for_tenant_tokens",
    Owner.USER: "for_personal_tokens",
}
MARKERS = {Kind.ACCESS_TOKEN: credentials.ACCESS_TOKEN, Kind.CLIENT_CREDENTIALS: credentials.CLIENT_SECRET}


@dataclass(frozen=True)
class Issued:
    """The row beside its secret: two values, one of which cannot be saved, logged or serialised by accident."""

    token: ApiToken
    plaintext: str = field(repr=False)


class NameTaken(InvalidField):
    code = "name_taken"

    def __init__(self, name: str) -> None:
        super().__init__("name", f"There is a token named {name} already: choose another name.")


class TokenTypeDisabled(InvalidField):
    """The vendor has switched this owner and kind off."""

    code = "token_type_disabled"
    is_denial = True

    def __init__(self, owner: str, kind: str) -> None:
        super().__init__("kind", f"Tokens of the kind {kind} with the owner {owner} are switched off here.")


class QuotaReached(Refusal):
    code = "quota_reached"

    def __init__(self, quota: int) -> None:
        super().__init__(f"You have {quota} such tokens, as many as are allowed: delete one first.")


class MayNotMakeTokens(Refusal):
    """R13: a token makes tokens only if its type says so."""

    code = "token_makes_no_tokens"

    def __init__(self) -> None:
        super().__init__("A token of this type can't make, change or extend tokens: sign in, or use an environment's.")


class NotItsOwner(Refusal):
    """The secret of a personal token is shown to its owner alone (R3)."""

    code = "not_its_owner"

    def __init__(self) -> None:
        super().__init__("Only its owner can be shown the secret of a personal token.")


class Expired(Refusal):
    code = "expired"

    def __init__(self) -> None:
        super().__init__("This token has expired and can't be revived: make a new one.")


class AlreadyIssued(Refusal):
    """The form or the Idempotency-Key was used before (R1). `token` is what it made; None once that is deleted."""

    code = "already_issued"
    is_denial = False

    def __init__(self, token: ApiToken | None) -> None:
        super().__init__("This was sent before. Its secret was shown in the first answer only: make a new secret.")
        self.token = token


def issue(*, by: Principal, tenant: Tenant | None, order: Order, at: datetime, nonce: str | None = None) -> Issued:
    """Make a token; its plaintext is returned this once (R1).

    Raises a Refusal: InvalidField for what makes no sense, the ceiling's refusals (R3), QuotaReached, AlreadyIssued.
    """
    environment = by.environment
    with _changing(by, "apitoken.issued", environment, tenant, name=order.name):
        used = _claim(nonce, by)
        token_type = _token_type(environment, order)
        membership = order.membership if order.owner == Owner.USER else None
        lock(membership or tenant or environment)
        grantor = _grantor(by)
        check_holds(grantor, f"{PERMISSION_FAMILY[Owner(order.owner)]}:create")
        _check_may_make(by, order)
        decided = _decide(grantor, token_type, tenant, membership, order.grant)
        _check_quota(token_type, membership or tenant or environment, at)
        token = ApiToken(
            environment=environment,
            tenant=tenant,
            membership=membership,
            token_type=token_type,
            owner=order.owner,
            kind=order.kind,
            name=clean_name(order.name),
            description=clean_description(order.description),
            creator_id=by.actor.id if by.membership else None,
            parent=by.token,
            expires_at=_expiry(by, token_type, order.expiry, at),
            ip_allowlist=_networks(by, token_type, order.ip_allowlist),
            created_at=at,
        )
        _name_publicly(token)
        _apply(token, decided, grantor)
        plaintext = _new_secret(token, by, at)
        if used:
            IssueNonce.objects.filter(pk=used.pk).update(token_id=token.id)
        _record(by, "apitoken.issued", token, after=_snapshot(token, decided))
    return Issued(token=token, plaintext=plaintext)


def edit(
    *,
    by: Principal,
    token: ApiToken,
    at: datetime,
    name: str | None = None,
    description: str | None = None,
    grant: Grant | None = None,
    expiry: Expiry | None = None,
) -> ApiToken:
    """Change what is given and leave the rest. Widening or extending is granting and passes the same ceiling (R3)."""
    with _changing(by, "apitoken.edited", token.environment, token.tenant, token, name=name or ""):
        token, grantor = _locked(by, token)
        check_holds(grantor, _needs(token, "create"))
        if grant is not None or expiry is not None:
            _check_may_make(by, token)
        before = _snapshot(token)
        if name is not None:
            token.name = clean_name(name)
        if description is not None:
            token.description = clean_description(description)
        if expiry is not None:
            if token.expires_at and token.expires_at <= at:
                raise Expired
            token.expires_at = _expiry(by, token.token_type, expiry, at)
        if grant is not None:
            decided = _decide(grantor, token.token_type, token.tenant, token.membership, grant)
            token.token_roles.all().delete()
            _apply(token, decided, grantor)
        elif expiry is not None:
            _check_covers(grantor, token)
        token.save()
        _record(by, "apitoken.edited", token, before=before, after=_snapshot(token))
    return token


def disable(*, by: Principal, token: ApiToken, at: datetime) -> ApiToken:
    """Stop it at once; reversible. JWTs issued until now stay dead even after it is enabled again (R5)."""
    with _changing(by, "apitoken.disabled", token.environment, token.tenant, token):
        token, grantor = _locked(by, token)
        check_holds(grantor, _needs(token, "delete"))
        if token.disabled_at is None:
            token.disabled_at = at
            ApiToken.objects.filter(pk=token.pk).update(disabled_at=at, generation=F("generation") + 1)
            _record(by, "apitoken.disabled", token)
    return token


def enable(*, by: Principal, token: ApiToken) -> ApiToken:
    """Let it work again: granting, so whoever enables it must be able to hand out all it may do (R3)."""
    with _changing(by, "apitoken.enabled", token.environment, token.tenant, token):
        token, grantor = _locked(by, token)
        check_holds(grantor, _needs(token, "create"))
        _check_may_make(by, token)
        if token.disabled_at is not None:
            _check_covers(grantor, token)
            token.disabled_at = None
            ApiToken.objects.filter(pk=token.pk).update(disabled_at=None)
            _record(by, "apitoken.enabled", token)
    return token


def delete(*, by: Principal, token: ApiToken) -> None:
    """The row and its digests go, for good; the record keeps a tombstone (R6). Stopping a leak never needs rank."""
    with _changing(by, "apitoken.deleted", token.environment, token.tenant, token):
        token, grantor = _locked(by, token)
        check_holds(grantor, _needs(token, "delete"))
        _record(by, "apitoken.deleted", token, before=_tombstone(token))
        token.delete()


def renew_secret(*, by: Principal, token: ApiToken, at: datetime, nonce: str | None = None) -> Issued:
    """Replace the secret: the old one stops at once, the new one is returned this once. Granting (R3)."""
    with _changing(by, "apitoken.secret_renewed", token.environment, token.tenant, token):
        used = _claim(nonce, by)
        token, grantor = _locked(by, token)
        check_holds(grantor, _needs(token, "create"))
        _check_may_make(by, token)
        if token.owner == Owner.USER and by.membership != token.membership:
            raise NotItsOwner
        if token.expires_at and token.expires_at <= at:
            raise Expired
        _check_covers(grantor, token)
        token.secrets.filter(slot__isnull=False).update(slot=None, retired_at=at)
        plaintext = _new_secret(token, by, at)
        if used:
            IssueNonce.objects.filter(pk=used.pk).update(token_id=token.id)
        _record(by, "apitoken.secret_renewed", token)
    return Issued(token=token, plaintext=plaintext)


@dataclass(frozen=True, kw_only=True)
class _Decided:
    through: str
    granted: frozenset[str]
    roles: tuple[Role, ...] = ()


@contextmanager
def _changing(
    by: Principal,
    verb: str,
    environment: Environment,
    tenant: Tenant | None,
    token: ApiToken | None = None,
    *,
    name: str = "",
) -> Iterator[None]:
    """One transaction. What it refuses is recorded after it is rolled back (R10); of two equal names the loser is told.

    The constraint decides which of two was first, so its error is read here, outside the atomic block.
    """
    recorded = refusals_recorded(
        actor=by.actor,
        verb=verb,
        target_kind="apitoken",
        target_id=token.id if token else None,
        environment_id=environment.id,
        tenant_id=tenant.id if tenant else None,
    )
    try:
        with recorded, transaction.atomic():
            yield
    except IntegrityError as error:
        if "apitoken_name_unique_per_owner" in str(error):
            raise NameTaken(name.strip()) from error
        raise


def _record(
    by: Principal, verb: str, token: ApiToken, *, before: Detail | None = None, after: Detail | None = None
) -> None:
    record(
        actor=by.actor,
        verb=verb,
        target_kind="apitoken",
        target_id=token.id,
        environment_id=token.environment_id,
        tenant_id=token.tenant_id,
        before=before,
        after=after,
    )


def _claim(nonce: str | None, by: Principal) -> IssueNonce | None:
    """Use the nonce up, or raise AlreadyIssued. A concurrent second use waits here for the first to commit."""
    actor_id = by.actor.id
    if not nonce or actor_id is None:
        return None
    digest = sha256(nonce.encode()).digest()
    try:
        with transaction.atomic():
            return IssueNonce.objects.create(actor_id=actor_id, digest=digest)
    except IntegrityError as error:
        used = IssueNonce.objects.get(actor_id=actor_id, digest=digest)
        made = ApiToken.objects.filter(pk=used.token_id).first() if used.token_id else None
        raise AlreadyIssued(made) from error


def _token_type(environment: Environment, order: Order) -> TokenType:
    if order.owner not in Owner.values:
        raise InvalidField("owner", f"Owner is one of {', '.join(Owner.values)}.")
    if order.kind not in Kind.values:
        raise InvalidField("kind", f"Kind is one of {', '.join(Kind.values)}.")
    token_type = TokenType.objects.filter(environment=environment, owner=order.owner, kind=order.kind).first()
    if token_type is None or not token_type.is_enabled:
        raise TokenTypeDisabled(order.owner, order.kind)
    return token_type


def _grantor(by: Principal) -> Grantor:
    """What the one who asks holds at this moment, under shared locks on them and on their roles."""
    if by.is_system:
        return UNLIMITED
    if by.membership is not None:
        lock_shared(Membership.objects.filter(pk=by.membership.pk))
        lock_shared(Role.objects.filter(membership_roles__membership=by.membership))
        return grantor_of_membership(by.membership)
    if by.token is None:
        return POWERLESS
    lock_shared(ApiToken.objects.filter(pk=by.token.pk))
    lock_shared(Role.objects.filter(token_roles__token=by.token))
    row = ApiToken.objects.with_standing().filter(pk=by.token.pk).first()
    if row is None:
        return POWERLESS
    now = policy.effective(policy.Standing.of(row))
    if by.scopes is not None:
        now = now.narrowed(by.scopes)
    return Grantor(level=now.level, permissions=now.permissions)


def _locked(by: Principal, token: ApiToken) -> tuple[ApiToken, Grantor]:
    """The token as it is now, held exclusively, and the grantor; the owner first, for the one order of locks."""
    lock(token.membership or token.tenant or token.environment)
    grantor = _grantor(by)
    lock(token)
    return ApiToken.objects.with_standing().get(pk=token.pk), grantor


def _needs(token: ApiToken, act: str) -> str:
    return f"{PERMISSION_FAMILY[Owner(token.owner)]}:{act}"


def _check_may_make(by: Principal, what: Order | ApiToken) -> None:
    if by.token is None:
        if by.membership and what.owner == Owner.USER and what.membership != by.membership:
            raise NotItsOwner
        return
    if not by.token.token_type.may_make_tokens:
        raise MayNotMakeTokens
    if what.owner == Owner.USER and by.token.owner != Owner.ENVIRONMENT:
        raise MayNotMakeTokens


def _decide(
    grantor: Grantor, token_type: TokenType, tenant: Tenant | None, membership: Membership | None, grant: Grant
) -> _Decided:
    """What the grant would fix, after the ceiling has passed it (R3)."""
    owner = Owner(token_type.owner)
    known = Permission.objects.filter(environment=token_type.environment_id).values_list("key", GRANTABLE[owner])
    grantable = {key for key, is_grantable in known if is_grantable}
    if grant.roles and grant.permissions:
        raise InvalidField("permissions", "Give either roles or permissions, not both.")
    if grant.roles:
        roles = _resolve(grant.roles, token_type.environment, tenant)
        lock_shared(Role.objects.filter(pk__in=[role.pk for role in roles]))
        held = held_roles(roles)
        _check_carried(token_type, roles, held)
        check_roles(grantor, held.values(), strict=token_type.environment.strict_ceiling)
        everything = policy.grantor_with(held.values()).permissions
        granted = (everything & grantable) - frozenset(grant.without)
        if not granted:
            raise InvalidField("without" if grant.without else "roles", "Nothing would be left for it to do.")
        return _Decided(through="roles", granted=granted, roles=tuple(roles))
    if grant.permissions:
        if unknown := set(grant.permissions) - {key for key, _ in known}:
            raise InvalidField("permissions", f"Unknown permission: {', '.join(sorted(unknown))}.")
        if barred := set(grant.permissions) - grantable:
            raise InvalidField("permissions", f"Not for tokens of this owner: {', '.join(sorted(barred))}.")
        check_permissions(grantor, grant.permissions)
        return _Decided(through="permissions", granted=frozenset(grant.permissions) - frozenset(grant.without))
    if owner != Owner.USER or membership is None:
        raise InvalidField("roles", "Choose at least one role: a token without one could do nothing.")
    check_permissions(grantor, grantor_of_membership(membership).permissions & grantable)
    return _Decided(through="owner", granted=frozenset())


def _resolve(names: tuple[str, ...], environment: Environment, tenant: Tenant | None) -> list[Role]:
    """Roles by key or id; one that is not available here is unknown, whether or not it exists elsewhere."""
    available = {}
    for role in available_roles(environment, tenant):
        available[role.key] = available[str(role.id)] = role
    if unknown := [name for name in names if name not in available]:
        raise InvalidField("roles", f"Unknown role: {', '.join(sorted(unknown))[:200]}.")
    return list({available[name].id: available[name] for name in names}.values())


def _check_carried(token_type: TokenType, roles: list[Role], held: dict[UUID, HeldRole]) -> None:
    if token_type.carries_all_roles:
        return
    carried = set(token_type.token_type_roles.values_list("role_id", flat=True))
    for role in roles:
        if role.id not in carried:
            raise policy.RoleNotCarried(held[role.id])


def _check_covers(grantor: Grantor, token: ApiToken) -> None:
    """R3 on everything that an existing token may do."""
    standing = policy.Standing.of(token)
    if standing.granted_through == "roles":
        lock_shared(Role.objects.filter(token_roles__token=token))
        check_roles(grantor, standing.roles, strict=token.environment.strict_ceiling)
    elif standing.granted_through == "permissions":
        check_permissions(grantor, standing.granted)
    else:
        check_permissions(grantor, standing.followable)


def _check_quota(token_type: TokenType, owner: Membership | Tenant | Environment, at: datetime) -> None:
    """Deleted ones are gone and expired ones don't count. The owner's row is locked, so nobody counts beside us."""
    if token_type.quota is None:
        return
    alive = ApiToken.objects.filter(token_type=token_type, owner_id=owner.pk).not_expired(at=at)
    if alive.count() >= token_type.quota:
        raise QuotaReached(token_type.quota)


def _expiry(by: Principal, token_type: TokenType, expiry: Expiry, at: datetime) -> datetime | None:
    """Within the token type's limits, and never after the token that makes it (R13)."""
    moment = expiry.settle(token_type, now=at)
    latest = by.token.expires_at if by.token else None
    if latest is None or (moment is not None and moment <= latest):
        return moment
    if expiry == Expiry():
        return latest
    raise InvalidField("expires_at", f"It can't outlive the token that makes it, which expires {latest:%Y-%m-%d}.")


def _networks(by: Principal, token_type: TokenType, asked: tuple[str, ...]) -> list[str]:
    """The IP allowlist; a token made by a token is never open to more networks than its parent (R13)."""
    networks = clean_networks(asked)
    inherited = by.token.ip_allowlist if by.token else []
    if not networks:
        networks = inherited
    if inherited and not all(lies_within(network, inherited) for network in networks):
        raise InvalidField("ip_allowlist", "It can't be used from more networks than the token that makes it.")
    if token_type.requires_ip_allowlist and not networks:
        raise InvalidField("ip_allowlist", "Tokens of this type need the networks they may be used from.")
    return networks


def _name_publicly(token: ApiToken) -> None:
    token.token_id = credentials.new_token_id()
    token.client_id = f"{token.environment.token_prefix}_{token.token_id}"


def _apply(token: ApiToken, decided: _Decided, grantor: Grantor) -> None:
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


def _new_secret(token: ApiToken, by: Principal, at: datetime) -> str:
    minted = credentials.mint(
        prefix=token.environment.token_prefix,
        marker=MARKERS[Kind(token.kind)],
        token_id=token.token_id,
        peppers=settings.PEPPERS,
    )
    Secret.objects.create(
        token=token,
        environment_id=token.environment_id,
        scope_id=token.tenant_id or token.environment_id,
        kind=token.kind,
        slot=1,
        digest=minted.digest,
        pepper_id=minted.pepper_id,
        last_four=minted.last_four,
        shown_to_id=by.actor.id if by.membership else None,
        created_at=at,
    )
    return minted.plaintext


def _snapshot(token: ApiToken, decided: _Decided | None = None) -> dict[str, object]:
    roles = decided.roles if decided else token.roles.all()
    return {
        "name": token.name,
        "description": token.description,
        "owner": token.owner,
        "kind": token.kind,
        "granted_through": token.granted_through,
        "granted": token.granted,
        "roles": sorted(role.key for role in roles),
        "expires_at": token.expires_at.isoformat() if token.expires_at else None,
    }


def _tombstone(token: ApiToken) -> dict[str, object]:
    live = token.secrets.filter(slot__isnull=False).order_by("-created_at").first()
    return {
        "token_id": token.token_id,
        "name": token.name,
        "last_four": live.last_four if live else "",
        "creator": str(token.creator_id) if token.creator_id else None,
    }
