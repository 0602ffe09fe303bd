"""Who would lose what: a change is made, measured by the function that the token endpoint asks, and undone."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from apitokens import policy
from apitokens.models import ApiToken
from apitokens.principals import Principal
from apitokens.querysets import ApiTokenQuerySet
from tenants.policy import PermissionMissing

# Of how many tokens the rights are compared, and how many of those that lose something are named.
COMPARED, NAMED = 5_000, 50
READ_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True)
class Loss:
    """One token that would lose permissions. `tenant` is the slug, None for an environment's own, as is its name."""

    token_id: str
    name: str
    owner: str
    tenant: str | None
    tenant_name: str | None
    lost: tuple[str, ...]
    stops: bool


@dataclass(frozen=True, kw_only=True)
class Impact:
    """`count` tokens lose something, of which `rows` are the first; `is_capped` when there were too many to compare.

    `members` hold what is changed; their rights are always what their roles hold.
    """

    count: int
    rows: tuple[Loss, ...]
    is_capped: bool
    members: int = 0


class _Undone(Exception):
    """Takes the transaction back."""


# Called at the end of a change, inside its transaction.
Then = Callable[[], object]


def _undo() -> None:
    raise _Undone


def impact_of(
    tokens: ApiTokenQuerySet,
    change: Callable[[Then], object],
    *,
    by: Principal,
    permission: str,
    members: Callable[[], int] = lambda: 0,
) -> Impact:
    """What the change would take from the tokens. It is called with what to do at its end, which undoes it.

    Whatever it refuses is raised, and recorded as ever: asking what one may not do is an attempt too.
    """
    if not by.holds(permission):  # before so much is read for somebody who may not ask
        with suppress(_Undone):
            change(_undo)
        raise PermissionMissing(permission)
    ids = list(tokens.order_by("pk").values_list("pk", flat=True)[: COMPARED + 1])
    is_capped = len(ids) > COMPARED
    before = _effective(ids[:COMPARED])
    after: dict[UUID, frozenset[str]] = {}

    def measure() -> None:
        after.update(_effective(ids[:COMPARED]))
        raise _Undone

    with suppress(_Undone):
        change(measure)
    lost = {pk: keys - after.get(pk, frozenset()) for pk, keys in before.items()}
    losers = [pk for pk, keys in lost.items() if keys]
    named = ApiToken.objects.filter(pk__in=losers[:NAMED]).select_related("tenant").order_by("pk")
    rows = tuple(
        Loss(
            token_id=token.token_id,
            name=token.name,
            owner=token.owner,
            tenant=token.tenant.slug if token.tenant else None,
            tenant_name=token.tenant.name if token.tenant else None,
            lost=tuple(sorted(lost[token.pk])),
            stops=lost[token.pk] == before[token.pk],
        )
        for token in named
    )
    return Impact(count=len(losers), rows=rows, is_capped=is_capped, members=members())


def nothing() -> None:
    """The end of a change that is meant."""


def _effective(ids: list[UUID]) -> dict[UUID, frozenset[str]]:
    """By id, a few hundred at a time: standings are wide."""
    found = {}
    for start in range(0, len(ids), READ_AT_ONCE):
        for token in ApiToken.objects.with_standing().filter(pk__in=ids[start : start + READ_AT_ONCE]):
            found[token.pk] = policy.effective_permissions(policy.Standing.of(token)).permissions
    return found
