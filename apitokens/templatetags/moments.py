"""Moments on pages: `{% moment at %}`. A list has hundreds, and a template of their own would take most of its time."""

from datetime import UTC, date, datetime
from functools import lru_cache

from django import template
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import get_language

register = template.Library()


@register.simple_tag
def moment(at: datetime, exact: bool = False) -> SafeString:  # noqa: FBT001, FBT002 -- so Django's tags are called
    """The day, or with `exact` the minute, in the reader's time zone; in full, with UTC beside it, as its title."""
    in_utc, local = at.astimezone(UTC), timezone.localtime(at)
    clock, has_zone = f"{local:%H:%M} {local.tzname()}", timezone.get_current_timezone_name() != "UTC"
    day = _day(local.date(), get_language())
    title = said = f"{day}, {clock}"
    if has_zone:
        title += f" ({_day(in_utc.date(), get_language())}, {in_utc:%H:%M} UTC)"
        said += f" ({in_utc:%H:%M} UTC)"
    shown = said if exact else day
    return format_html('<time datetime="{}" title="{}">{}</time>', in_utc.isoformat(), title, shown)


@lru_cache(maxsize=4096)
def _day(day: date, language: str | None) -> str:
    return date_format(day, "DATE_FORMAT")
