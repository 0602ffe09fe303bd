"""Words that several pages share."""

from collections.abc import Mapping
from datetime import UTC, datetime

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.functional import Promise, lazy
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

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
    days, hours, minutes = seconds // 86_400, seconds // 3_600, seconds // 60
    if days and seconds % 86_400 == 0:
        return ngettext("%(count)s day", "%(count)s days", days) % {"count": days}
    if hours and seconds % 3_600 == 0:
        return ngettext("%(count)s hour", "%(count)s hours", hours) % {"count": hours}
    if minutes and seconds % 60 == 0:
        return ngettext("%(count)s minute", "%(count)s minutes", minutes) % {"count": minutes}
    return ngettext("%(count)s second", "%(count)s seconds", seconds) % {"count": seconds}


def at_moment(at: datetime) -> str:
    """To the minute, as it stands within a sentence: in the reader's time zone, with UTC beside it."""
    in_utc = at.astimezone(UTC)
    if not zone_name():
        return _("%(at)s UTC") % {"at": date_format(in_utc, "DATETIME_FORMAT")}
    local = timezone.localtime(at)
    said = {
        "at": date_format(local, "DATETIME_FORMAT"),
        "zone": date_format(local, "T"),
        "day": date_format(in_utc, "MONTH_DAY_FORMAT"),
        "time": date_format(in_utc, "TIME_FORMAT"),
    }
    if in_utc.date() == local.date():
        return _("%(at)s %(zone)s (%(time)s UTC)") % said
    return _("%(at)s %(zone)s (%(day)s, %(time)s UTC)") % said


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
