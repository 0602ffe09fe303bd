"""What is in use can't be deleted unsaid: how much of what uses it, and the refusal that tells."""

from collections.abc import Mapping

from django.utils.translation import gettext as _
from django.utils.translation import ngettext_lazy

from audit.services import Refusal
from audit.words import grouped, listed

WORDS = {
    "members": ngettext_lazy("%(number)s member", "%(number)s members", "count"),
    "tokens": ngettext_lazy("%(number)s token", "%(number)s tokens", "count"),
    "invitations": ngettext_lazy("%(number)s open invitation", "%(number)s open invitations", "count"),
    "sign_ons": ngettext_lazy("%(number)s single sign-on", "%(number)s single sign-ons", "count"),
    "token_types": ngettext_lazy("%(number)s token type", "%(number)s token types", "count"),
    "roles": ngettext_lazy("%(number)s role", "%(number)s roles", "count"),
}


class InUse(Refusal):
    """`usage` counts by kind what uses it, kinds with nothing included; `text` has a place for it in words."""

    code = "in_use"
    is_denial = False

    def __init__(self, text: str, name: str, usage: Mapping[str, int]) -> None:
        self.usage = dict(usage)
        super().__init__(text % {"name": name, "usage": in_words(usage)})


class TooMany(Refusal):
    """Pages show them all beside each other, and every check reads them."""

    code = "limit_reached"


def in_words(usage: Mapping[str, int]) -> str:
    return listed(
        _("the client of every new tenant")
        if kind == "new_tenants"
        else WORDS[kind] % {"count": count, "number": grouped(count)}
        for kind, count in usage.items()
        if count
    )
