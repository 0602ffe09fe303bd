"""What happens to how a person signs in, in the record (R10). It concerns no tenant: only they are shown it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from allauth.mfa.models import Authenticator
from django.db import transaction
from django.utils.translation import gettext_lazy

from accounts.models import User
from accounts.visits import Visit, user_actor
from audit.models import AuditEvent
from audit.services import record

# What happened, as its owner is told it, by verb and kind of authenticator.
OWN_WORDS = {
    ("authenticator.added", "totp"): gettext_lazy("You set up an authenticator app"),
    ("authenticator.added", "webauthn"): gettext_lazy("You added a passkey"),
    ("authenticator.removed", "totp"): gettext_lazy("You removed the authenticator app"),
    ("authenticator.removed", "webauthn"): gettext_lazy("You removed a passkey"),
    ("recovery_codes.made", None): gettext_lazy("You got new recovery codes"),
    ("recovery_codes.used", None): gettext_lazy("You used a recovery code"),
    ("session.ended", None): gettext_lazy("You signed another browser out"),
    ("password.changed", None): gettext_lazy("You changed the password"),
    ("user.edited", None): gettext_lazy("You changed your profile"),
}
CODES = Authenticator.Type.RECOVERY_CODES


def record_of(user: User, request: Visit, verb: str, **after: object) -> None:
    """One event about the person, by the person."""
    record(
        actor=user_actor(user, request),
        verb=verb,
        target_kind="user",
        target_id=user.pk,
        environment_id=None,
        tenant_id=None,
        after=after or None,
    )


@contextmanager
def authenticators_recorded(user: User, request: Visit) -> Iterator[None]:
    """One transaction; what it adds to and takes from the person's authenticators is in the record."""
    with transaction.atomic():
        before = _authenticators(user)
        yield
        after = _authenticators(user)
        # The rest go by themselves: recovery codes with the last authenticator, the old ones with new ones.
        for pk in before.keys() - after.keys():
            if before[pk] != CODES:
                record_of(user, request, "authenticator.removed", type=before[pk])
        for pk in sorted(after.keys() - before.keys()):
            if after[pk] == CODES:
                record_of(user, request, "recovery_codes.made")
            else:
                record_of(user, request, "authenticator.added", type=after[pk])


@dataclass(frozen=True)
class OwnEvent:
    words: str
    at: datetime
    ip: str | None


def events_of(user: User, limit: int) -> list[OwnEvent]:
    """The newest of what that person did about how they sign in."""
    about = AuditEvent.objects.filter(target_id=user.pk, actor_id=user.pk, verb__in=[verb for verb, _ in OWN_WORDS])
    found = about.order_by("-at", "-id")[:limit]
    return [
        OwnEvent(words=str(OWN_WORDS[event.verb, (event.after or {}).get("type")]), at=event.at, ip=event.ip)
        for event in found
    ]


def _authenticators(user: User) -> dict[int, str]:
    return dict(Authenticator.objects.filter(user=user).values_list("pk", "type"))
