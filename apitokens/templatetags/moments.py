"""Moments on pages: `{% moment at %}`. A list has hundreds, and a template of their own would take most of its time."""

from datetime import UTC, date, datetime
from functools import lru_cache

from django import template
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import get_language

from audit.words import listed

register = template.Library()


@register.simple_tag
def moment(at: datetime, exact: bool = False) -> SafeString:
    """The day, or with `exact` the minute, in the reader's time zone; in full, with UTC beside it, as its title."""
    in_utc, local = at.astimezone(UTC), timezone.localtime(at)
    language = get_language()
    day = _day(local.date(), language)
    title = said = listed((day, f"{local:%H:%M} {local.tzname()}"))
    if timezone.get_current_timezone_name() != "UTC":
        utc = f"{in_utc:%H:%M} UTC"
        title += f" ({listed((_day(in_utc.date(), language), utc))})"
        said += f" ({utc})"
    shown = said if exact else day
    return format_html('<time datetime="{}" title="{}">{}</time>', in_utc.isoformat(), title, shown)


@lru_cache(maxsize=4096)
def _day(day: date, language: str | None) -> str:
    return date_format(day, "DATE_FORMAT")
