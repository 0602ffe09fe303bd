"""The seeds of authenticator apps and of recovery codes: whoever reads one can make the codes, so none lies open."""

from collections.abc import Iterator
from dataclasses import dataclass

from allauth.mfa.models import Authenticator
from django.conf import settings
from django.db import transaction

from accounts import sealing

# Where allauth keeps what its adapter has encrypted.
MEMBER = {Authenticator.Type.TOTP: "secret", Authenticator.Type.RECOVERY_CODES: "seed"}
BATCH = 500


@dataclass(frozen=True)
class Wrapping:
    """How many seeds are under another key-encryption key than the first, and how many under none that we have."""

    under_old: int = 0
    unreadable: int = 0


def seal(text: str) -> str:
    return sealing.seal(text.encode(), settings.KEY_ENCRYPTION_KEYS).decode()


def unseal(sealed: str) -> str:
    """Raises sealing.SealUnreadable."""
    return sealing.unseal(sealed.encode(), settings.KEY_ENCRYPTION_KEYS).decode()


def wrapping() -> Wrapping:
    under_old = unreadable = 0
    for row in _seeded().iterator(chunk_size=BATCH):
        try:
            under_old += _resealed(row) is not None
        except sealing.SealUnreadable:
            unreadable += 1
    return Wrapping(under_old, unreadable)


def reencrypt() -> int:
    """Put every seed that can be opened under the first key-encryption key; how many were not."""
    return sum(_reencrypt(keys) for keys in _batches())


def _reencrypt(keys: list[int]) -> int:
    count = 0
    with transaction.atomic():
        # Who uses a recovery code up meanwhile writes the same column.
        for row in _seeded().filter(pk__in=keys).order_by("pk").select_for_update():
            try:
                sealed = _resealed(row)
            except sealing.SealUnreadable:
                continue
            if sealed is not None:
                row.data[MEMBER[row.type]] = sealed.decode()
                row.save(update_fields=["data"])
                count += 1
    return count


def _batches() -> Iterator[list[int]]:
    last = 0
    while keys := list(_seeded().filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[:BATCH]):
        yield keys
        last = keys[-1]


def _seeded():
    return Authenticator.objects.filter(type__in=list(MEMBER))


def _resealed(row: Authenticator) -> bytes | None:
    return sealing.reseal(row.data[MEMBER[row.type]].encode(), settings.KEY_ENCRYPTION_KEYS)
