"""Stopping many tokens at once: what a filter chooses, or those that were picked one by one; an event each.

Disabling is reversible and never needs rank (R3), but it needs the permission to stop each owner's tokens that it
touches.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime

from django.db.models import F, Q
from django.utils.translation import gettext as _

from apitokens import ceiling, services
from apitokens.changing import Stale, changing
from apitokens.finding import Chosen, among
from apitokens.models import ApiToken, Owner
from apitokens.orders import InvalidField
from apitokens.principals import Principal
from apitokens.querysets import ApiTokenQuerySet
from audit.services import Change, Refusal, record_each
from tenants.policy import Grantor, check_holds
from tenants.queries import lock

# So that one call ends within a request's time; whoever has more calls again.
MOST = 10_000
SHOWN = 50
BATCH = 500


class NothingChosen(InvalidField):
    code = "nothing_chosen"

    def __init__(self) -> None:
        super().__init__("filter", _("Say which tokens: a filter that is empty would stop every one."))


@dataclass(frozen=True, kw_only=True)
class Listed:
    """How many there are, and the newest of them."""

    count: int = 0
    first: tuple[ApiToken, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of one of those that were picked; `refused` says why nothing did."""

    token: ApiToken
    refused: Refusal | None = None


def disable_each(*, by: Principal, tokens: Iterable[ApiToken], at: datetime) -> list[Result]:
    """Each in a transaction of its own: what is refused for one stops none of the others."""
    return [_tried(services.disable, by, token, at) for token in tokens]


def delete_each(*, by: Principal, tokens: Iterable[ApiToken], at: datetime) -> list[Result]:
    return [_tried(services.delete, by, token, at) for token in tokens]


def _tried(act: Callable[..., object], by: Principal, token: ApiToken, at: datetime) -> Result:
    try:
        act(by=by, token=token, at=at)
    except Refusal as refusal:
        return Result(token=token, refused=refusal)
    return Result(token=token)


def preview(*, by: Principal, chosen: Chosen, at: datetime) -> Listed:
    """What `disable_all` would stop now; raises what it would raise, and changes nothing."""
    with _changing(by, chosen):
        by, grantor = ceiling.grantor_of(by, at=at)
        return listed(_stoppable(by, grantor, chosen, at))


def disable_all(*, by: Principal, chosen: Chosen, at: datetime, expected: int | None = None) -> int:
    """Disable what is chosen, at most `MOST` a call; how many it were. `preview` says how many are left.

    `expected` is how many somebody was shown: raises Stale if there are others by now.
    """
    with _changing(by, chosen):
        lock(by.tenant or by.environment)
        by, grantor = ceiling.grantor_of(by, at=at)
        tokens = _stoppable(by, grantor, chosen, at)
        if expected is not None and tokens.count() != expected:
            raise Stale
        return stop(by, tokens, at=at)


def listed(tokens: ApiTokenQuerySet) -> Listed:
    first = tokens.with_standing().with_last_four().order_by("-created_at", "-id")[:SHOWN]
    return Listed(count=tokens.count(), first=tuple(first))


def stop(by: Principal, tokens: ApiTokenQuerySet, *, at: datetime) -> int:
    """Disable the first `MOST` of them, inside a transaction: how many. Their JWTs are dead too (R5)."""
    some = tokens.filter(disabled_at__isnull=True).order_by("pk").values("pk")[:MOST]
    # Disabled by somebody else while we waited for its lock, it is not ours to disable.
    locked = ApiToken.objects.select_for_update(of=("self",), no_key=True).filter(pk__in=some, disabled_at__isnull=True)
    rows = list(locked.order_by("pk").values_list("pk", "tenant_id"))
    for start in range(0, len(rows), BATCH):
        batch = [pk for pk, _ in rows[start : start + BATCH]]
        ApiToken.objects.filter(pk__in=batch).update(disabled_at=at, generation=F("generation") + 1)
    record_each(
        actor=by.actor,
        verb="apitoken.disabled",
        target_kind="apitoken",
        environment_id=by.environment.id,
        changes=[Change(target_id=pk, tenant_id=tenant_id) for pk, tenant_id in rows],
    )
    return len(rows)


def _changing(by: Principal, chosen: Chosen) -> AbstractContextManager[None]:
    asked = chosen.described()
    return changing(by, "apitoken.disabled", target_kind="apitoken", tenant=by.tenant, asked=asked)


def _stoppable(by: Principal, grantor: Grantor, chosen: Chosen, at: datetime) -> ApiTokenQuerySet:
    """What is chosen of what works or could be made to work, within reach; raises PermissionMissing."""
    if chosen.is_empty:
        raise NothingChosen
    reachable = ApiToken.objects.filter(environment=by.environment, disabled_at__isnull=True).not_expired(at=at)
    if by.tenant is not None:
        reachable = reachable.filter(tenant=by.tenant)
    others = Q(Q(owner=Owner.USER), ~Q(membership=by.member) if by.member else Q())
    if by.acts_for_environment:
        others = Q(pk__in=[])
    elif not grantor.holds("members:read"):
        # To whoever may not see them, the personal tokens of others don't exist.
        reachable = reachable.exclude(others)
    tokens = among(reachable, chosen, environment=by.environment, at=at)
    owners = set(tokens.exclude(others).order_by().values_list("owner", flat=True).distinct())
    for owner in sorted(owners):
        check_holds(grantor, f"{services.PERMISSION_FAMILY[Owner(owner)]}:delete")
    # What is made while we decide was not decided about.
    decided = Q(~others, owner__in=owners)
    if tokens.filter(others).exists():
        # Whoever may end a membership may stop the personal tokens that go with it.
        check_holds(grantor, "members:delete")
        decided |= others
    return tokens.filter(decided)
