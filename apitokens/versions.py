"""The versions of a token's proof: at most two live, the newest of the retired ones kept (R7). Rows, not rules.

A live version holds a slot. One whose deadline has passed is dead at that moment, whether or not it still holds its
slot: the next rotation, or housekeeping, takes it away.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.models import F
from django.utils.translation import gettext as _

from apitokens import credentials, keys
from apitokens.models import ApiToken, Kind, Secret
from apitokens.orders import InvalidField
from apitokens.principals import Principal

# So many retired versions are known again when somebody presents them.
RETIRED_KEPT = 10
SLOTS = frozenset({1, 2})
MARKERS = {Kind.ACCESS_TOKEN: credentials.ACCESS_TOKEN, Kind.CLIENT_CREDENTIALS: credentials.CLIENT_SECRET}


@dataclass(frozen=True)
class Rotation:
    """Two versions that both work, until the deadline of the old one."""

    old: Secret
    new: Secret
    deadline: datetime


def live_among(secrets: Iterable[Secret], at: datetime) -> list[Secret]:
    """Of one token's versions those that work at that moment; the one with a deadline, which is the old one, first."""
    live = [row for row in secrets if row.slot is not None and (row.expires_at is None or row.expires_at > at)]
    return sorted(live, key=lambda row: (row.expires_at is None, row.created_at, row.id))


def rotation_among(secrets: Iterable[Secret], at: datetime) -> Rotation | None:
    live = live_among(secrets, at)
    if len(live) < len(SLOTS) or (deadline := live[0].expires_at) is None:
        return None
    return Rotation(old=live[0], new=live[-1], deadline=deadline)


def held(token: ApiToken, at: datetime) -> list[Secret]:
    """The live versions, locked until the end of the transaction; what is past its deadline is retired on the way."""
    retire_overdue(at=at, token=token)
    rows = token.secrets.filter(slot__isnull=False).select_for_update(no_key=True)
    return live_among(rows.order_by("pk"), at)


def limit(secrets: Iterable[Secret], deadline: datetime | None) -> None:
    """They work until then; None for as long as the token."""
    Secret.objects.filter(pk__in=[row.pk for row in secrets]).update(expires_at=deadline)


def retire(secrets: Iterable[Secret], at: datetime) -> None:
    """They are dead from now on; their digests stay, so that they are known when they are presented again."""
    Secret.objects.filter(pk__in=[row.pk for row in secrets]).update(slot=None, retired_at=at)


def retire_overdue(*, at: datetime, token: ApiToken | None = None) -> int:
    """Take the slots of those whose deadline has passed, of one token or of all; they were dead before."""
    overdue = Secret.objects.filter(slot__isnull=False, expires_at__lte=at)
    if token is not None:
        overdue = overdue.filter(token=token)
    return overdue.update(slot=None, retired_at=F("expires_at"))


def forget_oldest(token: ApiToken) -> None:
    """Of the retired ones only so many are kept, however often a token is rotated."""
    retired = token.secrets.filter(slot__isnull=True).order_by("-retired_at", "-id")
    token.secrets.filter(pk__in=list(retired.values_list("pk", flat=True)[RETIRED_KEPT:])).delete()


def public_key_of(kind: str, text: str) -> dict[str, str]:
    """The key, as it will be stored; raises InvalidField, which says nothing of what was pasted."""
    if kind != Kind.CLIENT_CREDENTIALS:
        raise InvalidField("public_key", _("Only client credentials can have a public key instead of a secret."))
    try:
        return keys.read_public_key(text)
    except keys.KeyRefused as refused:
        raise InvalidField("public_key", str(refused)) from None


def add(token: ApiToken, by: Principal, at: datetime, *, public_key: dict[str, str] | None = None) -> str | None:
    """A new version in a free slot: the plaintext of a new secret, or None for a public key."""
    taken = set(token.secrets.filter(slot__isnull=False).values_list("slot", flat=True))
    proof: dict[str, Any] = {"public_key": public_key}
    plaintext = None
    if public_key is None:
        minted = credentials.mint(
            prefix=token.environment.token_prefix,
            marker=MARKERS[Kind(token.kind)],
            token_id=token.token_id,
            peppers=settings.PEPPERS,
        )
        plaintext = minted.plaintext
        proof = {"digest": minted.digest, "pepper_id": minted.pepper_id, "last_four": minted.last_four}
    elif token.secrets.filter(public_key__kid=public_key["kid"]).exists():
        raise InvalidField("public_key", _("This token has, or had, this very key: make a new pair."))
    Secret.objects.create(
        token=token,
        environment_id=token.environment_id,
        scope_id=token.tenant_id or token.environment_id,
        kind=token.kind,
        slot=min(SLOTS - taken),
        shown_to_id=by.person_id,
        created_at=at,
        **proof,
    )
    return plaintext


def described(secrets: Iterable[Secret]) -> list[str]:
    """Each by what it is known as."""
    return [name for row in secrets for name in row.known_as.values()]
