"""The life of an environment's signing keys: published, active, retiring, retired; or compromised.

A key is published before it signs for so long that everybody who verifies has met it, and afterwards verifies for as
long as anything it signed may live. People start a rotation and declare a key compromised; the rest is a matter of
time (`move`). Nobody has to come in time for that: until they do, the active key goes on and a retiring one verifies.

A private part is kept only while its key may sign.
"""

import logging
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime

from django.conf import settings
from django.db import InterfaceError, OperationalError, transaction
from django.db.models import F, Q
from django.utils.translation import gettext as _

from accounts import sealing
from apitokens import ceiling, jwts, keyring
from apitokens.changing import AlreadySo, changing, record_change
from apitokens.models import SigningKey
from apitokens.orders import InvalidField
from apitokens.principals import Principal, system
from apitokens.services import Gone
from audit.services import Refusal
from tenants.models import Environment
from tenants.policy import Grantor, check_holds
from tenants.queries import lock

# So many may verify at a time: each of them is in every answer of the JWKS.
MOST_VERIFYING = 50
# How much of a key id somebody types who means this key.
TYPED = 8
State = SigningKey.State
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wrapping:
    """Keys whose private part is under another key-encryption key than the first, or under none that we have."""

    under_old: list[SigningKey] = field(default_factory=list)
    unreadable: list[SigningKey] = field(default_factory=list)


class SuccessorWaits(Refusal):
    """A rotation has begun: two keys that wait would only stand in each other's way."""

    code = "successor_waits"
    is_denial = False

    def __init__(self, waiting: SigningKey) -> None:
        super().__init__(
            _(
                "A rotation has begun already: the key %(kid)s… takes over at %(active_from)s UTC. Begin the next one "
                "after that."
            )
            % {"kid": waiting.kid[:TYPED], "active_from": f"{waiting.active_from:%H:%M:%S}"}
        )


class TooManyKeys(Refusal):
    code = "too_many_keys"
    is_denial = False

    def __init__(self) -> None:
        super().__init__(
            _(
                "%(count)s keys still verify what they signed. Wait until the oldest is retired; shorter JWT lifetimes "
                "let them retire sooner."
            )
            % {"count": MOST_VERIFYING}
        )


def find(environment: Environment, kid: str) -> SigningKey | None:
    """The environment's key of this id, without its private part."""
    return keyring.ring(environment).filter(kid=kid).first() if jwts.KID.fullmatch(kid) else None


def rotate(*, by: Principal, environment: Environment, at: datetime) -> SigningKey:
    """Publish a successor, which takes over when all who verify can know it; raises SuccessorWaits, TooManyKeys."""
    with _changing(by, "signing_key.published"):
        by, environment, grantor = _locked(by, environment, at)
        check_holds(grantor, "signing-keys:create")
        ring = keyring.ring(environment)
        if waiting := ring.filter(state=State.PUBLISHED).first():
            raise SuccessorWaits(waiting)
        if ring.filter(state__in=keyring.VERIFYING).count() >= MOST_VERIFYING:
            raise TooManyKeys
        key = keyring.make(environment, state=State.PUBLISHED, at=at, active_from=at + keyring.lead())
        _record(by, "signing_key.published", key, None)
    return key


def compromise(*, by: Principal, key: SigningKey, typed: str, at: datetime) -> SigningKey:
    """The key is dead at once, and with it all that it signed. The active one has a successor at once.

    That is the one that waits, which some who verify know already, else a new one. `typed` is the beginning of the
    key id, or all of it. Raises AlreadySo for a key that nothing is believed of any more.
    """
    with _changing(by, "signing_key.compromised", key):
        by, environment, grantor = _locked(by, key.environment, at)
        check_holds(grantor, "signing-keys:delete")
        now = keyring.ring(environment).filter(pk=key.pk).first()
        if now is None:
            raise Gone
        if now.state not in keyring.VERIFYING:
            raise AlreadySo(
                _("The key %(kid)s… is %(state)s already: nothing that it signed is believed.")
                % {"kid": now.kid[:TYPED], "state": now.state}
            )
        if len(typed.strip()) < TYPED or not now.kid.startswith(typed.strip()):
            raise InvalidField(
                "name",
                _("Type how the key id begins, %(kid)s, to confirm that you mean it.") % {"kid": now.kid[:TYPED]},
            )
        was_active = now.state == State.ACTIVE
        if now.state != State.PUBLISHED:
            # Who holds an older JWKS still believes the key; the status list tells them of what it signed.
            Environment.objects.filter(pk=environment.pk).update(generation=F("generation") + 1)
        _end(by, "signing_key.compromised", now, State.COMPROMISED, at)
        if was_active:
            _succeed(by, environment, at)
    return now


def move(*, at: datetime) -> int:
    """Every step that is due by now, in one transaction an environment; how many were taken.

    An environment in which something is wrong keeps no other waiting. Raises what a database raises that is away.
    """
    waiting = Q(state=State.PUBLISHED, active_from__lte=at) | Q(state=State.RETIRING)
    due = Environment.objects.filter(pk__in=SigningKey.objects.filter(waiting).values("environment"))
    return sum(_move_or_log(environment, at) for environment in due.order_by("pk"))


def reencrypt() -> int:
    """Put every private part that can be opened under the first key-encryption key; how many were not."""
    return sum(_reencrypt(environment) for environment in Environment.objects.order_by("pk"))


def wrapping(environment: Environment) -> Wrapping:
    """What the private parts are encrypted under."""
    found = Wrapping()
    for key in _with_private_part(environment):
        try:
            if _rewrapped(key) is not None:
                found.under_old.append(key)
        except sealing.SealUnreadable:
            found.unreadable.append(key)
    return found


def snapshot(key: SigningKey) -> dict[str, object]:
    moments = ("active_from", "retiring_from", "ended_at")
    described = {name: moment.isoformat() for name in moments if (moment := getattr(key, name))}
    return {"kid": key.kid, "algorithm": key.algorithm, "state": str(key.state), **described}


def _move_or_log(environment: Environment, at: datetime) -> int:
    try:
        return _move(environment, at)
    except (OperationalError, InterfaceError):
        raise
    except Exception:  # the other environments' keys must move, whatever this was
        logger.exception("the signing keys of environment %s were not moved", environment.pk)
        return 0


def _move(environment: Environment, at: datetime) -> int:
    if not _due(environment, at):
        return 0
    with transaction.atomic():
        lock(environment)
        by = system(environment)
        due = _due(environment, at)
        for key in due:
            if key.state == State.PUBLISHED:
                _take_over(by, key, at)
            else:
                _end(by, "signing_key.retired", key, State.RETIRED, at)
    return len(due)


def _due(environment: Environment, at: datetime) -> list[SigningKey]:
    """The keys that have a step before them. Of two that wait, which only a raw write can make, the elder."""
    ring = keyring.ring(environment).order_by("active_from", "id")
    retiring = list(ring.filter(state=State.RETIRING))
    ends = keyring.ends_of(retiring)
    over = [key for key in retiring if ends[key.id] <= at]
    return [*over, *ring.filter(state=State.PUBLISHED, active_from__lte=at)[:1]]


def _succeed(by: Principal, environment: Environment, at: datetime) -> None:
    """Another key signs from this moment on."""
    waiting = keyring.ring(environment).filter(state=State.PUBLISHED).order_by("active_from", "id").first()
    if waiting is not None:
        _take_over(by, waiting, at)
    else:
        key = keyring.make(environment, state=State.ACTIVE, at=at, active_from=at)
        _record(by, "signing_key.activated", key, None)


def _take_over(by: Principal, key: SigningKey, at: datetime) -> None:
    if (active := keyring.ring(key.environment).filter(state=State.ACTIVE).first()) is not None:
        before = snapshot(active)
        active.state, active.retiring_from, active.private_key_encrypted = State.RETIRING, at, b""
        active.save(update_fields=["state", "retiring_from", "private_key_encrypted"])
        _record(by, "signing_key.replaced", active, before)
    before = snapshot(key)
    key.state, key.active_from = State.ACTIVE, at
    key.save(update_fields=["state", "active_from"])
    _record(by, "signing_key.activated", key, before)


def _end(by: Principal, verb: str, key: SigningKey, state: SigningKey.State, at: datetime) -> None:
    before = snapshot(key)
    if key.state == State.PUBLISHED:
        key.active_from = None  # it was to sign, and never has
    key.state, key.ended_at, key.private_key_encrypted = state, at, b""
    key.save(update_fields=["state", "active_from", "ended_at", "private_key_encrypted"])
    _record(by, verb, key, before)


def _reencrypt(environment: Environment) -> int:
    with transaction.atomic():
        lock(environment)
        count = 0
        for key in wrapping(environment).under_old:
            SigningKey.objects.filter(pk=key.pk).update(private_key_encrypted=_rewrapped(key))
            _record(system(environment), "signing_key.reencrypted", key, None)
            count += 1
    return count


def _rewrapped(key: SigningKey) -> bytes | None:
    return sealing.reseal(bytes(key.private_key_encrypted), settings.KEY_ENCRYPTION_KEYS)


def _with_private_part(environment: Environment) -> list[SigningKey]:
    return list(SigningKey.objects.filter(environment=environment, state__in=keyring.SIGNING).order_by("created_at"))


def _changing(by: Principal, verb: str, key: SigningKey | None = None) -> AbstractContextManager[None]:
    return changing(by, verb, target_kind="signing_key", target_id=key.id if key else None)


def _locked(by: Principal, environment: Environment, at: datetime) -> tuple[Principal, Environment, Grantor]:
    """Who asks, the environment, held exclusively, and the grantor, as they are now."""
    ceiling.check_environment_wide(by, environment)
    lock(environment)
    by, grantor = ceiling.grantor_of(by, at=at)
    now = Environment.objects.filter(pk=environment.pk).first()
    if now is None:
        raise Gone
    return by, now, grantor


def _record(by: Principal, verb: str, key: SigningKey, before: dict[str, object] | None) -> None:
    record_change(by, verb, target_kind="signing_key", target_id=key.id, before=before, after=snapshot(key))
