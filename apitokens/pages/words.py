"""Words that several pages share."""

from collections.abc import Mapping
from datetime import datetime

from django.utils.formats import date_format
from django.utils.functional import Promise
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
SECONDS = {"default_lifetime", "longest_lifetime", "jwt_lifetime", "longest_overlap"}


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
    """To the minute, as it stands within a sentence."""
    return date_format(at, "j M Y, H:i") + " UTC"


def last_used_in_words(at: datetime | None, ip: str | None, *, never: str) -> str:
    """When and, where that is known, from which address."""
    if at is None:
        return never
    return _("%(at)s, from %(ip)s") % {"at": at_moment(at), "ip": ip} if ip else at_moment(at)
