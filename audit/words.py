"""Words for people, in the language of who is answered: English wherever a machine is, and in the record."""

from collections.abc import Iterable

from django.utils.formats import number_format
from django.utils.functional import lazy
from django.utils.translation import gettext, gettext_noop, ngettext, pgettext

__all__ = ["gettext", "gettext_noop", "grouped", "later", "listed", "ngettext"]


def listed(items: Iterable[object]) -> str:
    """One after the other: `a, b, c`."""
    return pgettext("between the parts of a list", ", ").join(str(item) for item in items)


def later(text: str, **values: object) -> object:
    """A text that is translated when somebody reads it: on a page in their language, in the log in English."""
    return lazy(lambda: gettext(text) % values, str)()


def grouped(value: int) -> str:
    """With its thousands set apart: `10,000`."""
    return number_format(value, force_grouping=True)
