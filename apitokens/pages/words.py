"""Words that several pages share."""

from collections.abc import Mapping
from datetime import UTC, datetime

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.functional import Promise, lazy
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apitokens.models import Kind, Owner

KINDS = {Kind.CLIENT_CREDENTIALS: gettext_lazy("Client credentials"), Kind.ACCESS_TOKEN: gettext_lazy("Access token")}
OWNERS = {
    Owner.ENVIRONMENT: gettext_lazy("The environment"),
    Owner.TENANT: gettext_lazy("A tenant"),
    Owner.USER: gettext_lazy("A person"),
}
SETTINGS: Mapping[str, str | Promise] = {
    "name": gettext_lazy("Name"),
    "level": gettext_lazy("Level"),
    "description": gettext_lazy("Description"),
    "for_environment_tokens": gettext_lazy("For the environment's tokens"),
    "for_tenant_tokens": gettext_lazy("For tenants' tokens"),
    "for_personal_tokens": gettext_lazy("For personal tokens"),
    "is_enabled": gettext_lazy("Switched on"),
    "carries_all_roles": gettext_lazy("Carries every role"),
    "roles": gettext_lazy("Carries the roles"),
    "default_lifetime": gettext_lazy("Default lifetime"),
    "longest_lifetime": gettext_lazy("Longest lifetime"),
    "may_never_expire": gettext_lazy("May never expire"),
    "jwt_lifetime": gettext_lazy("Its JWTs live for"),
    "longest_overlap": gettext_lazy("Longest overlap"),
    "requires_ip_allowlist": gettext_lazy("Needs an IP allowlist"),
    "quota": gettext_lazy("How many an owner may hold"),
    "accepts_basic": gettext_lazy("Accepted as HTTP Basic"),
    "may_make_tokens": gettext_lazy("May make tokens"),
}
# Of the settings, those that are durations.
SECONDS = {"default_lifetime", "longest_lifetime", "jwt_lifetime", "longest_overlap", "reauthenticate_after"}


def in_words(seconds: int) -> str:
    """Whole days, hours or minutes, in words."""
    for size, one, many in (
        (86_400, _("1 day"), _("%d days")),
        (3_600, _("1 hour"), _("%d hours")),
        (60, _("1 minute"), _("%d minutes")),
    ):
        if seconds >= size and seconds % size == 0:
            return one if seconds == size else many % (seconds // size)
    return _("%d seconds") % seconds


def at_moment(at: datetime) -> str:
    """To the minute, as it stands within a sentence: in the reader's time zone, with UTC beside it."""
    in_utc = at.astimezone(UTC)
    if not zone_name():
        return date_format(in_utc, "j M Y, H:i") + " UTC"
    local = timezone.localtime(at)
    beside = date_format(in_utc, "H:i" if in_utc.date() == local.date() else "j M, H:i")
    return date_format(local, "j M Y, H:i T") + f" ({beside} UTC)"


def zone_name() -> str:
    """The reader's time zone; empty for UTC."""
    name = timezone.get_current_timezone_name()
    return "" if name == "UTC" else name


def _said_of_zone() -> str:
    name = zone_name()
    return _("In your time zone, %(zone)s.") % {"zone": name} if name else _("In UTC.")


# Where a moment is typed.
IN_WHICH_ZONE = lazy(_said_of_zone, str)()


def last_used_in_words(at: datetime | None, ip: str | None, *, never: str) -> str:
    """When and, where that is known, from which address."""
    if at is None:
        return never
    return _("%(at)s, from %(ip)s") % {"at": at_moment(at), "ip": ip} if ip else at_moment(at)
