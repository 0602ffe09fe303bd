"""Which tokens of a list, and in which order: a form whose every answer stands in an address that can be kept."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.models import User
from apitokens.credentials import redacted
from apitokens.finding import TEXT_MAX, Chosen, StateFilter
from apitokens.models import Kind, Owner
from apitokens.pages.choices import OfferedChoice
from apitokens.pages.forms import STATE_WORDS
from apitokens.pages.places import PagePrincipal
from apitokens.pages.refusable import with_others
from apitokens.pages.words import KINDS
from apitokens.paging import Sort
from apitokens.querysets import ApiTokenQuerySet
from tenants.queries import available_roles

SHOWN = 200
FLAGS = ("never_used", "expiring")
# Out of sight until one of them is used.
FURTHER = ("kind", "owner", "role", "creator", *FLAGS)
OWNERS = {
    Owner.TENANT: gettext_lazy("For services"),
    Owner.USER: gettext_lazy("Personal"),
}
SORT_WORDS = {
    Sort.NEWEST: gettext_lazy("Newest first"),
    Sort.OLDEST: gettext_lazy("Oldest first"),
    Sort.NAME: gettext_lazy("Name, A to Z"),
    Sort.NAME_BACKWARDS: gettext_lazy("Name, Z to A"),
    Sort.LAST_USED: gettext_lazy("Last used first"),
    Sort.LONGEST_UNUSED: gettext_lazy("Longest unused first"),
    Sort.EXPIRES_FIRST: gettext_lazy("Expires first"),
    Sort.EXPIRES_LAST: gettext_lazy("Expires last"),
}


class TokenSearch(forms.Form):
    """Its choices are bounded; what an address asks for beyond them is looked for all the same."""

    q = forms.CharField(
        label=gettext_lazy("Find a token"),
        required=False,
        max_length=TEXT_MAX,
        widget=forms.TextInput(
            {
                "type": "search",
                "autocomplete": "off",
                "autocapitalize": "off",
                "spellcheck": "false",
                # Not the length of a name: what is pasted whole is known for a secret, and is not looked for as a name.
                "maxlength": "4000",
            }
        ),
        help_text=gettext_lazy("The beginning of its name, its id, client id or last four characters."),
    )
    state = OfferedChoice(label=gettext_lazy("State"), required=False)
    kind = OfferedChoice(label=gettext_lazy("Kind"), required=False)
    owner = OfferedChoice(label=gettext_lazy("Owner"), required=False)
    role = OfferedChoice(label=gettext_lazy("Role"), required=False)
    creator = OfferedChoice(label=gettext_lazy("Made by"), required=False)
    never_used = forms.BooleanField(label=gettext_lazy("Never used"), required=False)
    expiring = forms.BooleanField(label=gettext_lazy("Expires within 30 days"), required=False)
    sort = OfferedChoice(label=gettext_lazy("Order"), required=False, initial=Sort.NEWEST)

    def __init__(self, sent: Any, *, principal: PagePrincipal, visible: ApiTokenQuerySet) -> None:
        # Not said back, not even in the field.
        self.has_secret = bool(sent) and redacted(sent.get("q", "")) != sent.get("q", "")
        super().__init__(with_others(sent, q="") if self.has_secret else sent)
        self._offer("state", _("Every state"), STATE_WORDS.items())
        self._offer("kind", _("Every kind"), KINDS.items())
        self._offer("owner", _("Every owner"), OWNERS.items())
        if principal.tenant is None:
            del self.fields["owner"]  # where there is but one
        roles = available_roles(principal.environment, principal.tenant).order_by("level", "key")
        self._offer("role", _("Every role"), roles.values_list("key", "name")[:SHOWN], also=self.data.get("role", ""))
        self._offer("creator", _("Everybody"), _makers(visible), also=_("Somebody else"))
        field: Any = self.fields["sort"]
        field.choices = [(sort.value, label) for sort, label in SORT_WORDS.items()]

    def _offer(self, name: str, everything: str, choices: Iterable[tuple[Any, Any]], *, also: str = "") -> None:
        """`also` names what the address asks for beyond the choices, where there may be more of them."""
        field: Any = self.fields[name]
        field.choices = [("", everything), *((str(value), label) for value, label in choices)]
        asked = self.data.get(name, "")
        if also and asked not in dict(field.choices):
            field.choices = [*field.choices, (asked, also)]

    def clean_creator(self) -> UUID | None:
        try:
            return UUID(self.cleaned_data["creator"]) if self.cleaned_data["creator"] else None
        except ValueError:
            return None

    def clean_role(self) -> str:
        role: str = self.cleaned_data["role"]
        return role if len(role) <= TEXT_MAX and "\0" not in role else ""

    def chosen(self) -> Chosen:
        """What no token can match is as if it had not been asked for: an old address still opens the list."""
        asked = self._asked
        known: dict[str, set[Any]] = {"state": set(StateFilter), "kind": set(Kind.values), "owner": set(Owner.values)}
        of_known = {name: asked[name] for name, values in known.items() if asked.get(name) in values}
        others = {name: asked[name] for name in ("q", "role", "creator", *FLAGS) if asked.get(name)}
        return Chosen(**of_known, **others)

    @property
    def sorted_by(self) -> Sort:
        asked = self._asked.get("sort")
        return Sort(asked) if asked in set(Sort) else Sort.NEWEST

    @property
    def _asked(self) -> dict[str, Any]:
        """What of it makes sense; nothing of a form that was not sent."""
        return self.cleaned_data if self.is_bound and self.errors is not None else {}

    def query(self, **instead: str) -> str:
        """What is asked for as the end of an address, with something else in place of a part; empty for everything."""
        asked: dict[str, object] = {**self.chosen().described(), "sort": self.sorted_by.value, **instead}
        if asked["sort"] == Sort.NEWEST:
            del asked["sort"]
        return f"?{urlencode(asked)}" if asked else ""

    @property
    def further(self) -> list[forms.BoundField]:
        return [self[name] for name in FURTHER if name in self.fields]

    @property
    def is_further(self) -> bool:
        """Whether one of those that are out of sight narrows the list."""
        chosen = self.chosen()
        return any(getattr(chosen, name) for name in FURTHER)


def _makers(visible: ApiTokenQuerySet) -> list[tuple[UUID, str]]:
    """The people who made what is in the list, by name."""
    made = visible.filter(creator__isnull=False).order_by().values("creator").distinct()
    return sorted(((user.pk, str(user)) for user in User.objects.filter(pk__in=made)[:SHOWN]), key=lambda pair: pair[1])
