"""Forms give shapes and choices; whether something may be had is the service's to say, at the field it is about."""

import secrets
from collections.abc import Callable, Iterable

from django import forms
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from apitokens.access import grantor_for
from apitokens.finding import Chosen, StateFilter
from apitokens.models import DAY, Kind, Owner, TokenType
from apitokens.orders import CENTURY, DESCRIPTION_MAX, NAME_MAX, Expiry, Grant, Order
from apitokens.pages.places import PagePrincipal
from apitokens.pages.words import in_words
from apitokens.setup import BUILT_IN
from audit.services import Refusal
from tenants.models import Permission
from tenants.policy import why_not
from tenants.queries import available_roles, held_roles

NEVER = "never"
SHOWN_PERMISSIONS = 4
PRESETS = ((7 * DAY, _("7 days")), (30 * DAY, _("30 days")), (90 * DAY, _("90 days")), (365 * DAY, _("A year")))
OWNER_HELP = {
    Owner.ENVIRONMENT: (_("For your backend"), _("It acts for the environment, in all of its tenants.")),
    Owner.TENANT: (_("For a service"), _("It belongs to the tenant and survives you leaving.")),
    Owner.USER: (_("For me"), _("It is yours and stops when you leave.")),
}
KIND_HELP = {
    Kind.ACCESS_TOKEN: (_("Access token"), _("One string, sent as it is. The simplest for scripts and jobs.")),
    Kind.CLIENT_CREDENTIALS: (
        _("Client credentials"),
        _("An id and a secret, exchanged for short-lived JWTs. The best for services that call often."),
    ),
}


STATE_WORDS = {
    StateFilter.USABLE: _("Works now"),
    StateFilter.DISABLED: _("Disabled"),
    StateFilter.EXPIRED: _("Expired"),
    StateFilter.OUT_OF_POLICY: _("Out of policy"),
}


class _Explained:
    """Options with a line of help and, where one can't be chosen, the reason; both are in the option's data."""

    explain: Callable[[str], tuple[str, str]] = staticmethod(lambda value: ("", ""))

    def create_option(self, name, value, label, selected, index, subindex=None, attrs=None):
        option = super().create_option(name, value, label, selected, index, subindex=subindex, attrs=attrs)
        option["help"], option["reason"] = self.explain(str(value))
        if option["reason"]:
            option["attrs"]["disabled"] = True
        return option


class ExplainedRadios(_Explained, forms.RadioSelect):
    pass


class ExplainedCheckboxes(_Explained, forms.CheckboxSelectMultiple):
    pass


class OfferedChoice(forms.ChoiceField):
    """Shows what is on offer and takes whatever is sent: the service refuses, in the same words as the API."""

    def valid_value(self, value: str) -> bool:
        return True


class OfferedChoices(forms.MultipleChoiceField):
    def valid_value(self, value: str) -> bool:
        return True


class NonceForm(forms.Form):
    """A form that can be sent once: a second sending, by whatever way, makes nothing (R1)."""

    nonce = forms.CharField(widget=forms.HiddenInput, max_length=64, required=False)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["nonce"].initial = lambda: secrets.token_urlsafe(18)


class TokenNaming(forms.Form):
    """What can be changed without granting anything."""

    name = forms.CharField(
        label=_("Name"), max_length=NAME_MAX, help_text=_("What is it for? You will read this in a year.")
    )
    description = forms.CharField(
        label=_("Description"),
        max_length=DESCRIPTION_MAX,
        required=False,
        widget=forms.Textarea(attrs={"rows": 3}),
    )

    def add_refusal(self, refusal: Refusal) -> None:
        """Put the service's answer at the field it is about."""
        self.add_error(refusal.field if refusal.field in self.fields else None, str(refusal))


class DeletionForm(forms.Form):
    compromised = forms.BooleanField(
        label=_("It leaked: delete also the tokens that it made"),
        required=False,
        help_text=_("Whoever had it may have made them. They stop at once and are gone too."),
    )


class TakeOverForm(forms.Form):
    """What its roles have got since it was granted; all of it, unless something is unticked."""

    permissions = OfferedChoices(label=_("New in its roles"), widget=ExplainedCheckboxes)

    def __init__(self, *args, offered, **kwargs):
        super().__init__(*args, **kwargs)
        because = {each.permission: each.because for each in offered}
        field = self.fields["permissions"]
        field.choices = [(key, key) for key in because]
        field.initial = list(because)
        field.widget.explain = lambda value: (because.get(value, ""), "")

    def add_refusal(self, refusal: Refusal) -> None:
        self.add_error(refusal.field if refusal.field in self.fields else None, str(refusal))


class TokenSearch(forms.Form):
    """Which tokens of a list: by what can stand in an address."""

    kind = OfferedChoice(label=_("Kind"), required=False)
    state = OfferedChoice(label=_("State"), required=False)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["kind"].choices = [("", _("Every kind")), *((kind, words[0]) for kind, words in KIND_HELP.items())]
        self.fields["state"].choices = [("", _("Every state")), *STATE_WORDS.items()]

    def chosen(self) -> Chosen:
        """What no token can match is as if it had not been asked for: an old address still opens the list."""
        asked = self.cleaned_data if self.is_valid() else {}
        kind, state = asked.get("kind", ""), asked.get("state", "")
        return Chosen(kind=kind if kind in Kind.values else "", state=state if state in set(StateFilter) else "")


class TokenForm(NonceForm, TokenNaming):
    """A new token: four fields that matter, the rest under *Restrict further*."""

    owner = OfferedChoice(label=_("Who is it for?"), widget=ExplainedRadios)
    roles = OfferedChoices(
        label=_("Roles"),
        required=False,
        widget=ExplainedCheckboxes,
        help_text=_("Never more than you may do yourself. For yourself, none means: the same as you, at all times."),
    )
    expires_in = OfferedChoice(label=_("Expires"), required=False)
    expires_at = forms.DateTimeField(
        label=_("Or on a date"),
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        help_text=_("In UTC."),
    )
    kind = OfferedChoice(label=_("Kind"), widget=ExplainedRadios)
    without = OfferedChoices(
        label=_("Leave out"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=_("Permissions of the roles above that this token shall not have."),
    )
    permissions = OfferedChoices(
        label=_("Or these permissions, instead of roles"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=_("Picked one by one. They stay as they are whatever becomes of the roles."),
    )
    ip_allowlist = forms.CharField(
        label=_("Only from these networks"),
        required=False,
        max_length=2500,
        widget=forms.Textarea(attrs={"rows": 3, "placeholder": "203.0.113.0/24"}),
        help_text=_("One address or network a line. Empty: from anywhere."),
    )

    field_order = ["nonce", "name", "owner", "roles", "expires_in", "expires_at"]

    def __init__(self, *args, principal: PagePrincipal, **kwargs):
        super().__init__(*args, **kwargs)
        self.principal = principal
        types = TokenType.objects.filter(environment=principal.environment, is_enabled=True)
        owners = [Owner.ENVIRONMENT] if principal.tenant is None else [Owner.TENANT, Owner.USER]
        self._offer_cells(list(types.filter(owner__in=owners)))
        self._offer_roles()
        if principal.tenant is None:
            self._offer_permissions()
        else:
            del self.fields["permissions"]

    def _offer_permissions(self):
        """An environment's own token may have permissions picked directly: it often needs one or two, and no role."""
        grantable = Permission.objects.filter(environment=self.principal.environment, for_environment_tokens=True)
        self.fields["permissions"].choices = _pairs(grantable.values_list("key", flat=True))
        self.fields["roles"].help_text = _("Or pick permissions one by one, under “Restrict further”.")

    def _offer_cells(self, types):
        owners = [owner for owner in OWNER_HELP if any(cell.owner == owner for cell in types)]
        kinds = [kind for kind in KIND_HELP if any(cell.kind == kind for cell in types)]
        for name, values, words in (("owner", owners, OWNER_HELP), ("kind", kinds, KIND_HELP)):
            field = self.fields[name]
            field.choices = [(value.value, words[value][0]) for value in values]
            field.widget.explain = lambda value, words=words: (words[value][1], "")
            field.initial = values[0].value if values else None
        longest = [cell.longest_lifetime for cell in types]
        limit = None if not longest or None in longest else max(longest)
        presets = [(str(seconds), label) for seconds, label in PRESETS if limit is None or seconds <= limit]
        if any(cell.may_never_expire for cell in types):
            presets.append((NEVER, _("Never")))
        self.fields["expires_in"].choices = [("", _default_words({cell.default_lifetime for cell in types})), *presets]

    def _offer_roles(self):
        principal = self.principal
        roles = list(available_roles(principal.environment, principal.tenant).order_by("level", "key"))
        grantor = grantor_for(principal)
        held = {role.key: role for role in held_roles(roles).values()}
        strict = principal.environment.strict_ceiling

        def explain(key: str) -> tuple[str, str]:
            if key not in held:
                return "", ""
            return in_short(held[key].permissions), capfirst(why_not(grantor, held[key], strict=strict))

        self.fields["roles"].choices = [(role.key, role.name) for role in roles]
        self.fields["roles"].widget.explain = explain
        offered = frozenset().union(*(role.permissions for role in held.values()))
        self.fields["without"].choices = _pairs(key for key in offered if grantor.holds(key))

    def clean_expires_in(self) -> str | int | None:
        value = self.cleaned_data["expires_in"]
        if value in {"", NEVER}:
            return value or None
        try:
            seconds = int(value)
        except ValueError as error:
            raise forms.ValidationError(_("Choose one of the offers, or give whole seconds.")) from error
        if not 1 <= seconds <= CENTURY:
            raise forms.ValidationError(_("This moment has passed, or is too far away: choose one in the future."))
        return seconds

    def order(self) -> Order:
        """What the person asks for."""
        data = self.cleaned_data
        seconds = data["expires_in"]
        return Order(
            owner=data["owner"],
            kind=data["kind"],
            name=data["name"],
            description=data["description"],
            grant=Grant(
                roles=tuple(data["roles"]),
                permissions=tuple(data.get("permissions", ())),
                without=tuple(data["without"]),
            ),
            expiry=Expiry(
                at=data["expires_at"],
                seconds=seconds if isinstance(seconds, int) else None,
                never=seconds == NEVER,
            ),
            ip_allowlist=tuple(line for line in data["ip_allowlist"].splitlines() if line.strip()),
            membership=self.principal.membership,
        )


def _default_words(lifetimes: set[int | None]) -> str:
    """What happens when nothing is chosen, if that is the same for every kind and owner on offer."""
    if len(lifetimes) != 1:
        return str(_("The default of its kind"))
    lifetime = lifetimes.pop()
    if lifetime is None:
        return str(_("By default, never"))
    return str(_("By default, after %(time)s") % {"time": in_words(lifetime)})


def in_short(permissions: Iterable[str]) -> str:
    """The vendor's own permissions first: they are what tells roles apart."""
    ordered = sorted(permissions, key=lambda key: (key in BUILT_IN, key))
    more = len(ordered) - SHOWN_PERMISSIONS
    named = ", ".join(ordered[:SHOWN_PERMISSIONS])
    return str(_("%(named)s and %(more)s more") % {"named": named, "more": more}) if more > 0 else named


def _pairs(keys: Iterable[str]) -> list[tuple[str, str]]:
    return [(key, key) for key in sorted(keys)]
