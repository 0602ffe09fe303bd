"""One change: a transaction, the event of what was done in it, and the event of its refusal (R10)."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from apitokens.credentials import redacted
from apitokens.orders import InvalidField
from apitokens.principals import Principal
from audit.services import Detail, Refusal, record, refusals_recorded
from tenants.models import Tenant


class Stale(Refusal):
    """Two people changed one thing: the second has not seen what the first one made of it."""

    code = "stale"
    is_denial = False

    def __init__(self) -> None:
        super().__init__(_("Somebody has changed this since you opened it. Look at it as it is now, and decide again."))


class AlreadySo(Refusal):
    """It is in that state already: whoever asks has an old page before them."""

    code = "already_so"
    is_denial = False


class Taken(InvalidField):
    """Of two equal names the second; the database decides which was first."""

    code = "taken"


# What is kept of a refused request: enough to see what was meant.
LONGEST_ASKED, MOST_ASKED = 255, 200
# How PostgreSQL and SQLite name a broken unique constraint in their errors, and what is then said.
Unique = Mapping[tuple[str, ...], Refusal]


@contextmanager
def changing(
    by: Principal,
    verb: str,
    *,
    target_kind: str,
    target_id: UUID | None = None,
    tenant: Tenant | None = None,
    asked: Detail | None = None,
    unique: Unique | None = None,
) -> Iterator[None]:
    """One transaction. What it refuses is recorded after it is rolled back; a broken unique constraint is named.

    The constraint's error is read here, outside the atomic block.
    """
    recorded = refusals_recorded(
        actor=by.actor,
        verb=verb,
        target_kind=target_kind,
        target_id=target_id,
        environment_id=by.environment.id,
        tenant_id=tenant.id if tenant else None,
        asked=_redacted(asked) if asked else None,
    )
    try:
        with recorded, transaction.atomic():
            yield
    except IntegrityError as error:
        for names, refusal in (unique or {}).items():
            if any(name in str(error) for name in names):
                raise refusal from error
        raise


def _redacted(asked: Detail) -> Detail:
    """What was asked for goes into the record of a refusal: but no secret that was sent in the wrong place (R1).

    Callers give it as it was sent: of a secret that is cut before, most would stay and not be known for one.
    """
    return {name: _without_secrets(value) for name, value in asked.items()}


def _without_secrets(value: object) -> object:
    if isinstance(value, str):
        return redacted(value)[:LONGEST_ASKED]
    if isinstance(value, list | tuple | set | frozenset):
        return [_without_secrets(item) for item in list(value)[:MOST_ASKED]]
    return value


def record_change(
    by: Principal,
    verb: str,
    *,
    target_kind: str,
    target_id: UUID,
    tenant: Tenant | None = None,
    before: Detail | None = None,
    after: Detail | None = None,
) -> None:
    """The event of a change, inside the transaction that makes it."""
    record(
        actor=by.actor,
        verb=verb,
        target_kind=target_kind,
        target_id=target_id,
        environment_id=by.environment.id,
        tenant_id=tenant.id if tenant else None,
        before=before,
        after=after,
    )


def version_of(state: Mapping[str, object]) -> str:
    """What stands for this state and no other: an ETag's inner part, and the hidden field of a form."""
    return sha256(json.dumps(state, sort_keys=True, default=str).encode()).hexdigest()[:32]


def check_version(expected: str | Sequence[str] | None, state: Mapping[str, object]) -> None:
    """Asked under the lock on the row; raises Stale. None asks nothing."""
    if expected is None:
        return
    if version_of(state) not in ([expected] if isinstance(expected, str) else expected):
        raise Stale
