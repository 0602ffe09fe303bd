"""Words of templates: `{{ roles|listed }}`."""

from collections.abc import Iterable

from django import template

from audit import words

register = template.Library()


@register.filter
def listed(items: Iterable[object]) -> str:
    return words.listed(items)
