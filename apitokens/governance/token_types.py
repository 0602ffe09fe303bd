"""Which tokens may exist: the vendor's configuration of one cell, and what a change of it does to tokens that exist.

A limit binds what is made or changed from now on. What exists stays as it is, is listed as out of policy, and is
capped or disabled when the vendor says so.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Count, F, Q
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from apitokens import ceiling, services
from apitokens.changing import changing, check_version, record_change
from apitokens.governance import bulk
from apitokens.governance.bulk import BATCH, MOST, SHOWN, Listed, listed
from apitokens.models import DAY, ApiToken, Kind, Owner, TokenType, TokenTypeRole
from apitokens.orders import UNSET, InvalidField, Unset
from apitokens.principals import Principal
from audit import words
from audit.services import Change, record_each
from tenants.models import Environment, Membership, Role, Tenant
from tenants.policy import check_holds
from tenants.queries import lock, lock_shared

LIFETIME_MIN, LIFETIME_MAX = 60, 50 * 366 * DAY
JWT_MIN, JWT_MAX = 60, 30 * DAY
OVERLAP_MAX = 30 * DAY
QUOTA_MAX = 1_000_000
EXISTING = ("leave", "cap", "disable")
# Settings that a token of the type can be beyond.
LIMITS = {"longest_lifetime", "may_never_expire", "requires_ip_allowlist", "roles"}
COLUMNS = (
    "is_enabled", "default_lifetime", "longest_lifetime", "may_never_expire", "jwt_lifetime", "longest_overlap",
    "requires_ip_allowlist", "quota", "accepts_basic", "may_make_tokens",
)  # fmt: skip
# Of the settings that are numbers: the least, the most, and what is said of anything else.
RANGES = {
    "default_lifetime": (LIFETIME_MIN, LIFETIME_MAX, gettext_noop("A lifetime is between one minute and fifty years.")),
    "longest_lifetime": (LIFETIME_MIN, LIFETIME_MAX, gettext_noop("A lifetime is between one minute and fifty years.")),
    "jwt_lifetime": (JWT_MIN, JWT_MAX, gettext_noop("A JWT lives for at least one minute and at most 30 days.")),
    "longest_overlap": (0, OVERLAP_MAX, gettext_noop("The overlap is at most 30 days; 0 is none.")),
    "quota": (1, QUOTA_MAX, gettext_noop("At least one. To allow none, switch the type off.")),
}


@dataclass(frozen=True, kw_only=True)
class TypeChange:
    """What is given changes, the rest stays. Durations in seconds; None is never, or no limit; `roles` None is all."""

    is_enabled: bool | Unset = UNSET
    roles: tuple[str, ...] | Unset | None = UNSET
    default_lifetime: int | Unset | None = UNSET
    longest_lifetime: int | Unset | None = UNSET
    may_never_expire: bool | Unset = UNSET
    jwt_lifetime: int | Unset = UNSET
    longest_overlap: int | Unset = UNSET
    requires_ip_allowlist: bool | Unset = UNSET
    quota: int | Unset | None = UNSET
    accepts_basic: bool | Unset = UNSET
    may_make_tokens: bool | Unset = UNSET

    def given(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not UNSET}


@dataclass(frozen=True, kw_only=True)
class OverQuota:
    """An owner who holds more than the quota lets them: they keep those and get no more."""

    owner_id: UUID
    tenant: Tenant | None
    membership: Membership | None
    count: int


NONE = Listed()


@dataclass(frozen=True, kw_only=True)
class Impact:
    """What a change does to tokens that exist: `stops` and `loses_…` are of those that work now."""

    before: Mapping[str, object]
    after: Mapping[str, object]
    stops: Listed = NONE
    out_of_policy: Listed = NONE
    loses_basic: Listed = NONE
    loses_making: Listed = NONE
    owners_over_quota: tuple[OverQuota, ...] = ()
    owners_over_quota_count: int = 0

    @property
    def bites(self) -> bool:
        consequences = (self.stops, self.out_of_policy, self.loses_basic, self.loses_making)
        return bool(self.owners_over_quota_count or any(consequence.count for consequence in consequences))

    @property
    def changed(self) -> frozenset[str]:
        return frozenset(name for name in self.after if self.after[name] != self.before[name])


def cells(environment: Environment) -> list[TokenType]:
    """All six, in the order in which they are always shown, each with the roles that it lists."""
    rows = TokenType.objects.filter(environment=environment).select_related("environment").prefetch_related("roles")
    order = [(owner, kind) for owner in Owner.values for kind in Kind.values]
    return sorted(rows, key=lambda cell: order.index((cell.owner, cell.kind)))


def snapshot(token_type: TokenType) -> dict[str, object]:
    """Every setting; `roles` are keys, None is all."""
    roles = None if token_type.carries_all_roles else sorted(role.key for role in token_type.roles.all())
    return {"roles": roles, **{name: getattr(token_type, name) for name in COLUMNS}}


def preview(*, by: Principal, token_type: TokenType, change: TypeChange, at: datetime) -> Impact:
    """What the change would do to tokens that exist. It is made and undone, so that it is the very same change."""
    with _changing(by, token_type):
        _, token_type = _locked(by, token_type, at)
        impact = _made(token_type, change, at)
        transaction.set_rollback(True)
    return impact


def change(
    *,
    by: Principal,
    token_type: TokenType,
    change: TypeChange,
    at: datetime,
    existing: str = "leave",
    expected: str | Sequence[str] | None = None,
) -> TokenType:
    """Change what is given. `existing` says what becomes of tokens beyond the limits: leave, cap or disable them.

    Of those at most `bulk.MOST` a call; the rest stays listed as out of policy. What no date can mend, a missing
    allowlist or a role, is not capped. Raises InvalidField, Stale, PermissionMissing, OutOfReach.
    """
    with _changing(by, token_type):
        if existing not in EXISTING:
            raise InvalidField(
                "existing",
                _("What becomes of existing tokens is one of %(existing)s.") % {"existing": words.listed(EXISTING)},
            )
        by, token_type = _locked(by, token_type, at)
        before = snapshot(token_type)
        check_version(expected, before)
        _settle(token_type, change)
        after = snapshot(token_type)
        if after != before:
            record_change(
                by,
                "token_type.changed",
                target_kind="token_type",
                target_id=token_type.id,
                before={**_cell(token_type), **before},
                after={**_cell(token_type), **after},
            )
        if existing == "disable":
            bulk.stop(by, ApiToken.objects.filter(token_type=token_type).out_of_policy(at=at), at=at)
        elif existing == "cap":
            _cap(by, token_type, at)
    return token_type


def _changing(by: Principal, token_type: TokenType) -> AbstractContextManager[None]:
    return changing(
        by, "token_type.changed", target_kind="token_type", target_id=token_type.id, asked=_cell(token_type)
    )


def _cell(token_type: TokenType) -> dict[str, object]:
    return {"owner": token_type.owner, "kind": token_type.kind}


def _locked(by: Principal, token_type: TokenType, at: datetime) -> tuple[Principal, TokenType]:
    """Who asks, and the type, held exclusively, both as they are now."""
    ceiling.check_environment_wide(by, token_type.environment)
    # Its own tokens may be among those that are stopped: two such changes would wait for each other without it.
    lock(token_type.environment)
    lock(token_type)
    by, grantor = ceiling.grantor_of(by, at=at)
    check_holds(grantor, "token-types:create")
    return by, TokenType.objects.select_related("environment").get(pk=token_type.pk)


def _made(token_type: TokenType, change: TypeChange, at: datetime) -> Impact:
    """Make the change, and say what it does; in a transaction that is undone."""
    before = snapshot(token_type)
    of_type = ApiToken.objects.filter(token_type=token_type)
    works = listed(of_type.usable(at=at))
    _settle(token_type, change)
    after = snapshot(token_type)
    lost = {name for name in COLUMNS if before[name] is True and after[name] is False}
    is_limited = any(after[name] != before[name] for name in LIMITS)
    over, over_count = _over_quota(token_type, at) if after["quota"] != before["quota"] else ((), 0)
    return Impact(
        before=before,
        after=after,
        stops=works if "is_enabled" in lost else NONE,
        out_of_policy=listed(of_type.out_of_policy(at=at)) if is_limited else NONE,
        loses_basic=works if "accepts_basic" in lost and token_type.kind == Kind.CLIENT_CREDENTIALS else NONE,
        loses_making=works if "may_make_tokens" in lost else NONE,
        owners_over_quota=over,
        owners_over_quota_count=over_count,
    )


def _settle(token_type: TokenType, change: TypeChange) -> None:
    """Check and save what is given; raises InvalidField in words before a constraint would say it in its own."""
    given = change.given()
    was_enabled = token_type.is_enabled
    for name, (least, most, message) in RANGES.items():
        value = given.get(name)
        if value is not None and not least <= value <= most:
            raise InvalidField(name, _(message))
    for name in COLUMNS:
        if name in given:
            setattr(token_type, name, given[name])
    if token_type.default_lifetime is None and not token_type.may_never_expire:
        raise InvalidField(
            "default_lifetime", _("Choose a default lifetime: by this change no token may live for ever.")
        )
    longest = token_type.longest_lifetime
    if longest is not None and token_type.default_lifetime is not None and token_type.default_lifetime > longest:
        raise InvalidField("default_lifetime", _("The default can't be longer than the longest lifetime."))
    if change.roles is not UNSET:
        _list_roles(token_type, change.roles)
    token_type.save()
    if was_enabled and not token_type.is_enabled:
        TokenType.objects.filter(pk=token_type.pk).update(generation=F("generation") + 1)
        token_type.generation += 1


def _list_roles(token_type: TokenType, names: tuple[str, ...] | None) -> None:
    """What tokens of the type may carry from now on: all roles, or these of the vendor's alone."""
    token_type.carries_all_roles = names is None
    roles: list[Role] = []
    if names:
        named = Role.objects.filter(pk__in=ceiling.resolve(names, token_type.environment, None))
        lock_shared(named)
        roles = list(named)
    TokenTypeRole.objects.filter(token_type=token_type).exclude(role__in=roles).delete()
    kept = set(TokenTypeRole.objects.filter(token_type=token_type).values_list("role_id", flat=True))
    TokenTypeRole.objects.bulk_create(
        TokenTypeRole(
            token_type=token_type,
            role=role,
            environment_id=token_type.environment_id,
            owner=token_type.owner,
            kind=token_type.kind,
        )
        for role in roles
        if role.pk not in kept
    )


def _over_quota(token_type: TokenType, at: datetime) -> tuple[tuple[OverQuota, ...], int]:
    if token_type.quota is None:
        return (), 0
    held = ApiToken.objects.filter(token_type=token_type).not_expired(at=at).order_by()
    by_owner = held.values("owner_id", "tenant_id", "membership_id").annotate(count=Count("pk"))
    over = by_owner.filter(count__gt=token_type.quota)
    rows = list(over.order_by("-count", "owner_id")[:SHOWN])
    tenants = Tenant.objects.in_bulk([row["tenant_id"] for row in rows if row["tenant_id"]])
    members = Membership.objects.select_related("user").in_bulk(
        [row["membership_id"] for row in rows if row["membership_id"]]
    )
    found = tuple(
        OverQuota(
            owner_id=row["owner_id"],
            tenant=tenants.get(row["tenant_id"]),
            membership=members.get(row["membership_id"]),
            count=row["count"],
        )
        for row in rows
    )
    return found, over.count()


def _cap(by: Principal, token_type: TokenType, at: datetime) -> None:
    """Let those that live too long end at the latest moment that a token made now could have."""
    seconds = token_type.longest_lifetime
    if seconds is None and not token_type.may_never_expire:
        seconds = token_type.default_lifetime
    if seconds is None:
        return
    latest = at + timedelta(seconds=seconds)
    too_long = Q(expires_at__gt=latest)
    if not token_type.may_never_expire:
        too_long |= Q(expires_at__isnull=True)
    beyond = ApiToken.objects.filter(too_long, token_type=token_type).out_of_policy(at=at).order_by("pk").values("pk")
    locked = ApiToken.objects.select_for_update(of=("self",), no_key=True).filter(too_long, pk__in=beyond[:MOST])
    for batch in _batches(locked.order_by("pk").select_related("tenant").prefetch_related("roles")):
        before = {token.pk: services.snapshot(token) for token in batch}
        stopped = [token for token in batch if services.end_at(token, latest, now=at)]
        ApiToken.objects.bulk_update(batch, ["expires_at", "not_before", "disabled_at", "generation"])
        for token in stopped:
            record_change(by, "apitoken.disabled", target_kind="apitoken", target_id=token.pk, tenant=token.tenant)
        record_each(
            actor=by.actor,
            verb="apitoken.edited",
            target_kind="apitoken",
            environment_id=by.environment.id,
            changes=[
                Change(
                    target_id=token.pk,
                    tenant_id=token.tenant_id,
                    before=before[token.pk],
                    after=services.snapshot(token),
                )
                for token in batch
            ],
        )
        for parent in ApiToken.objects.filter(pk__in=before, children__isnull=False).distinct():
            services.cap_children(by, parent, at=at)


def _batches(tokens: Iterable[ApiToken]) -> Iterator[list[ApiToken]]:
    rows = list(tokens)
    for start in range(0, len(rows), BATCH):
        yield rows[start : start + BATCH]
