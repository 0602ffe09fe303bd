"""The browsers in which a person is signed in: listed, and ended from any of them."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from allauth.usersessions.models import UserSession
from django.contrib.auth import HASH_SESSION_KEY
from django.contrib.auth.hashers import make_password
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from accounts.models import User
from accounts.security import record_of
from accounts.visits import Visit, client_ip

# So many are shown; what is beyond ends with all others.
SHOWN = 50
# How exact the time of the last visit is.
SEEN_EVERY = timedelta(minutes=5)
LONG_AGO = datetime.min.replace(tzinfo=UTC)
# When this process last looked, by session. Nothing is decided by it.
_looked: dict[str, datetime] = {}
MOST_LOOKED = 10_000


@dataclass(frozen=True)
class OpenSession:
    row: UserSession
    is_current: bool

    @property
    def browser(self) -> str:
        return browser_of(self.row.user_agent)


def of(user: User, request: Visit, *, at: datetime) -> list[OpenSession]:
    """This one first, then by their last visit; in two queries."""
    rows = list(UserSession.objects.filter(user=user).order_by("-last_seen_at", "-pk")[: 2 * SHOWN])
    stored = Session.objects.filter(pk__in=[row.session_key for row in rows], expire_date__gt=at)
    # A changed password has ended the others: of those the row may still be there.
    now = user.get_session_auth_hash()
    live = {
        session.pk for session in stored if constant_time_compare(session.get_decoded().get(HASH_SESSION_KEY, ""), now)
    }
    found = [
        OpenSession(row, is_current=row.session_key == request.session.session_key)
        for row in rows
        if row.session_key in live
    ]
    return sorted(found, key=lambda each: not each.is_current)[:SHOWN]


def end(user: User, request: Visit, *, session_id: int) -> bool:
    """Whether there was one of theirs, other than this one, to end."""
    return _end(user, request, UserSession.objects.filter(user=user, pk=session_id)) > 0


def end_others(user: User, request: Visit) -> int:
    """How many there were."""
    return _end(user, request, UserSession.objects.filter(user=user))


def end_all(user: User) -> int:
    """Of somebody who is erased: nobody asks, and nothing is recorded here."""
    keys = list(UserSession.objects.filter(user=user).values_list("session_key", flat=True))
    ended = Session.objects.filter(pk__in=keys).delete()[0]
    UserSession.objects.filter(user=user).delete()
    return ended


def end_vouched(voucher_id: UUID) -> None:
    """Of everybody for whom it vouches: a session is bound to the person's password, though it be one that none has."""
    User.objects.filter(voucher_id=voucher_id).update(password=make_password(None))


def gone() -> QuerySet[UserSession]:
    """Rows of sessions that ended by themselves."""
    return UserSession.objects.filter(~Exists(Session.objects.filter(pk=OuterRef("session_key"))))


def note_visit(user: User, request: Visit) -> None:
    """At most one write in `SEEN_EVERY`, and in each process one look at whether it is time for one.

    A session that is in no list yet gets its row here.
    """
    at, key, address = timezone.now(), request.session.session_key, client_ip(request)
    if key is None or address is None or at - _looked.get(key, LONG_AGO) < SEEN_EVERY:
        return
    seen = UserSession.objects.filter(session_key=key, user=user).values_list("last_seen_at", flat=True).first()
    if seen is None or at - seen >= SEEN_EVERY:
        UserSession.objects.update_or_create(
            session_key=key,
            defaults={"user": user, "ip": address, "last_seen_at": at, "user_agent": _agent(request)},
        )
    looked(key, at)


def looked(key: str, at: datetime) -> None:
    """This process has no need to look at that session again for a while."""
    if len(_looked) >= MOST_LOOKED:
        _looked.clear()
    _looked[key] = at


def browser_of(agent: str) -> str:
    """A browser and a system in words people know; what says nothing known is shown as it is."""
    browser = next((name for token, name in BROWSERS if token in agent), "")
    system = next((name for token, name in SYSTEMS if token in agent), "")
    return " · ".join(filter(None, [browser, system])) or agent[:60]


# What they call themselves; those that also claim to be another come first.
BROWSERS = (
    ("Edg/", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)


def _agent(request: Visit) -> str:
    return request.headers.get("User-Agent", "")[: UserSession._meta.get_field("user_agent").max_length]


def _end(user: User, request: Visit, rows) -> int:
    with transaction.atomic():
        found = dict(rows.exclude(session_key=request.session.session_key).values_list("pk", "session_key"))
        # Whether or not its row was there still: the answer to a request that was under way can't bring it back.
        ended = Session.objects.filter(pk__in=found.values()).delete()[0]
        UserSession.objects.filter(pk__in=found).delete()
        if ended:
            record_of(user, request, "session.ended", count=ended)
    return ended
