"""The environment's Token Status Lists (IETF): whether a JWT that is read offline has been ended meanwhile.

A JWT's place is a slot per (token, tenant of the JWT, `gen`). What a slot means is computed from the rows of today, as
everything about a token is: a list is a photograph, and whoever changes something need not know of it.
"""

from __future__ import annotations

import hashlib
import zlib
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.db.models.lookups import Exact

from apitokens import keyring
from apitokens.jwts import Place
from apitokens.models import ApiToken, SigningKey, StatusCounter, StatusSlot
from apitokens.querysets import generation_without_tenant
from tenants.models import Environment, Tenant

# Each list is 2 ** 17 bits, 16 KiB before compression: small to fetch, and many enough to hide one token among.
LIST_SIZE = 2**17
# How long, in seconds, a photograph may be shown to others, by us and by every HTTP cache on the way together; and then
# again by who verifies, who counts from when they got it. So what has ended is seen within twice as long.
TTL = 15
# How long of that a process of ours keeps it.
KEPT = timedelta(seconds=5)
# Nobody may rely on an older photograph. A new one has another ETag each minute even if nothing has changed: "not
# modified" is never said of one that is about to expire.
LIFETIME = 180
PERIOD = 60


class NoSuchList(Exception):
    """The environment has no list of that number (yet)."""


@dataclass(frozen=True, kw_only=True)
class Photograph:
    """One list as it was `taken_at`: a signed JWT of type `statuslist+jwt`, and the ETag of what it says."""

    jwt: str
    etag: str
    taken_at: datetime


def uri_of(environment: Environment, number: int) -> str:
    """Where the environment's list of that number is served, and its `sub`."""
    return f"{environment.issuer}/status/{number}"


def place_of(token: ApiToken, tenant: Tenant | None, *, generation: int) -> Place:
    """The place of (token, tenant of the JWT, `gen`); made by the first grant that finds none.

    A token read `with_standing` brings its own along; for a tenant that it names it is one query. Making one is a short
    transaction of its own, so never call it inside another.
    """
    brought = token.slot_rows if tenant == token.tenant else []
    index = next((index for of_generation, index in brought if of_generation == generation), None)
    if index is None:
        index = _slots(token, tenant, generation).values_list("index", flat=True).first()
    if index is None:
        index = _allocate(token, tenant, generation)
    number, bit = divmod(index, LIST_SIZE)
    return Place(uri=uri_of(token.environment, number), index=bit)


def _slots(token: ApiToken, tenant: Tenant | None, generation: int) -> QuerySet[StatusSlot]:
    """The one slot of the three, if it is there, by the expressions of the index `statusslot_once`."""
    scope_id = tenant.id if tenant else token.id
    return StatusSlot.objects.filter(
        Exact(Coalesce(F("tenant_id"), F("token_id")), scope_id), token_id=token.id, generation=generation
    )


def _allocate(token: ApiToken, tenant: Tenant | None, generation: int) -> int:
    """The environment's next index. Who comes second for the same place waits at the counter, and then finds it."""
    with transaction.atomic(durable=True):
        StatusCounter.objects.bulk_create([StatusCounter(environment=token.environment)], ignore_conflicts=True)
        counter = StatusCounter.objects.select_for_update().get(environment=token.environment)
        made_meanwhile = _slots(token, tenant, generation).first()
        if made_meanwhile:
            return made_meanwhile.index
        slot = StatusSlot.objects.create(
            environment=token.environment,
            index=counter.next_index,
            token_id=token.id,
            tenant_id=tenant.id if tenant else None,
            generation=generation,
        )
        counter.next_index += 1
        counter.save(update_fields=["next_index"])
    return slot.index


def mark_of(environment: Environment) -> int:
    """The high-water mark: every index below it has been given away, with a slot that can be read by now."""
    marks = StatusCounter.objects.filter(environment=environment).values_list("next_index", flat=True)
    return marks.first() or 0


_kept: dict[tuple[UUID, int, str], Photograph] = {}


def photograph(environment: Environment, number: int, *, at: datetime) -> Photograph:
    """The list of that number, signed, at most `KEPT` old; raises NoSuchList or keyring.NoActiveKey.

    Only the document is kept: whether its environment and the key that signed it still are as they were is asked anew.
    """
    mark = mark_of(environment)
    # The first list is there from the start, for who fetches before there is a JWT.
    if number * LIST_SIZE >= max(mark, 1):
        raise NoSuchList
    key = keyring.active_key(environment)
    name = (environment.id, number, key.kid)
    kept = _kept.get(name)
    if kept is None or not _is_fresh(kept, at):
        kept = _take(key, number, mark, at=at)
        for old in [name for name, other in list(_kept.items()) if not _is_fresh(other, at)]:
            _kept.pop(old, None)
        _kept[name] = kept
    return kept


def _is_fresh(taken: Photograph, at: datetime) -> bool:
    return taken.taken_at <= at < taken.taken_at + KEPT


def _take(key: SigningKey, number: int, mark: int, *, at: datetime) -> Photograph:
    """`mark` was read before: slots that were made since are above it, so they do no harm if they are seen or not."""
    environment, uri = key.environment, uri_of(key.environment, number)
    first = number * LIST_SIZE
    bits = bits_of(_usable(environment, first, at=at), below=min(mark - first, LIST_SIZE), first=first)
    compressed = zlib.compress(bits, level=9)
    seconds = int(at.timestamp())
    content = f"{uri} {key.kid} {seconds // PERIOD} {hashlib.sha256(bits).hexdigest()}"
    claims = {
        "sub": uri,
        "iat": seconds,
        "exp": seconds + LIFETIME,
        "ttl": TTL,
        "status_list": {"bits": 1, "lst": urlsafe_b64encode(compressed).rstrip(b"=").decode()},
    }
    signing = keyring.RingBackend(key, typ="statuslist+jwt", issuer=environment.issuer, audience=None)
    # Weak, since two signatures of the same may differ.
    etag = f'W/"{hashlib.sha256(content.encode()).hexdigest()[:32]}"'
    return Photograph(jwt=signing.encode(claims), etag=etag, taken_at=at)


def bits_of(valid: Iterable[int], *, below: int, first: int = 0) -> bytes:
    """The list's bits, the least significant first: INVALID (1) for the first `below`, but for the `valid` indexes."""
    whole, rest = divmod(below, 8)
    bits = bytearray(LIST_SIZE // 8)
    bits[:whole] = b"\xff" * whole
    if rest:
        bits[whole] = (1 << rest) - 1
    for index in valid:
        byte, bit = divmod(index - first, 8)
        bits[byte] &= ~(1 << bit)
    return bytes(bits)


def _usable(environment: Environment, first: int, *, at: datetime) -> QuerySet[StatusSlot, int]:
    """The indexes whose JWTs our own API would take: a usable token, a tenant that is active, today's `gen` (R5)."""
    tenant = Tenant.objects.filter(
        pk=OuterRef("tenant_id"), environment=environment, suspended_at__isnull=True, deleted_at__isnull=True
    )
    token = (
        ApiToken.objects.usable(at=at)
        .filter(pk=OuterRef("token_id"), environment=environment)
        .annotate(above=generation_without_tenant())
        .filter(above=OuterRef("generation") - OuterRef("of_tenant"))
    )
    slots = StatusSlot.objects.filter(environment=environment, index__gte=first, index__lt=first + LIST_SIZE)
    return (
        slots.filter(Q(tenant_id__isnull=True) | Q(Exists(tenant)))
        .annotate(of_tenant=Coalesce(Subquery(tenant.values("generation")), 0))
        .filter(Exists(token))
        .values_list("index", flat=True)
    )
