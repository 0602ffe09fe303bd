"""Forms give shapes and choices; whether something may be had is the service's to say, at the field it is about."""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Any

from django import forms
from django.utils.text import capfirst, format_lazy
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from apitokens.access import grantor_for
from apitokens.finding import StateFilter
from apitokens.keys import LONGEST_KEY, KeyRefused, read_public_key
from apitokens.models import DAY, ApiToken, Kind, Owner, TokenType
from apitokens.orders import CENTURY, DESCRIPTION_MAX, NAME_MAX, Expiry, Grant, Order
from apitokens.pages.choices import ExplainedCheckboxes, ExplainedRadios, OfferedChoice, OfferedChoices
from apitokens.pages.places import PagePrincipal
from apitokens.pages.refusable import RefusableForm, VersionedForm, with_others
from apitokens.pages.words import IN_WHICH_ZONE, in_words
from apitokens.services import version
from apitokens.setup import BUILT_IN
from audit.words import listed
from tenants.models import Environment, Permission
from tenants.policy import why_not
from tenants.queries import available_roles, held_roles

NEVER = "never"
OF_GRANT = ("owner", "kind", "roles", "permissions", "without")
NAMELESS = _("A token without a name yet")
LEAST_TO_CHOOSE = 2
DIGITS_READ = 12
SHOWN_PERMISSIONS = 4
PRESETS = ((7 * DAY, _("7 days")), (30 * DAY, _("30 days")), (90 * DAY, _("90 days")), (365 * DAY, _("A year")))


class Proof(StrEnum):
    SECRET = "secret"  # noqa: S105 -- the name of a choice
    PUBLIC_KEY = "public_key"


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

PROOF_HELP = {
    Proof.SECRET: (_("A secret"), _("We make it and show it once.")),
    Proof.PUBLIC_KEY: (
        _("A public key"),
        _("You keep the private key and sign with it (private_key_jwt): there is no secret that could leak from here."),
    ),
}

STATE_WORDS = {
    StateFilter.USABLE: _("Works now"),
    StateFilter.DISABLED: _("Disabled"),
    StateFilter.NOT_YET: _("Not yet begun"),
    StateFilter.EXPIRED: _("Expired"),
    StateFilter.OUT_OF_POLICY: _("Out of policy"),
}


class Moment(forms.DateTimeInput):
    """A date and a time, as the browser's own field gives them."""

    input_type = "datetime-local"

    def __init__(self) -> None:
        super().__init__(format="%Y-%m-%dT%H:%M")


def whole_seconds(value: str) -> int:
    """What was chosen, or sent by who knows better than the offers; raises ValidationError."""
    if not (value.isascii() and value.isdecimal()):
        raise forms.ValidationError(_("Choose one of the offers, or give whole seconds."))
    # Cut short it is still beyond every limit, and whoever has the limit says so.
    return int(value[:DIGITS_READ])


class NonceForm(RefusableForm):
    """A form that can be sent once: a second sending, by whatever way, makes nothing (R1)."""

    nonce = forms.CharField(widget=forms.HiddenInput, max_length=64, required=False)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["nonce"].initial = lambda: secrets.token_urlsafe(18)


class TokenNaming(RefusableForm):
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


class ExpiryFields(forms.Form):
    """When a token ends: after one of the offers, or on a date."""

    expires_in = OfferedChoice(label=_("Expires"), required=False)
    expires_at = forms.DateTimeField(
        label=_("Or on a date"),
        required=False,
        widget=Moment(),
        help_text=IN_WHICH_ZONE,
    )

    def offer_lifetimes(self, types: Sequence[TokenType], *, unsaid: str) -> None:
        """What one of these types allows; `unsaid` says what happens when nothing is chosen."""
        limits = [cell.longest_lifetime for cell in types]
        bounded = [limit for limit in limits if limit is not None]
        limit = max(bounded) if limits and len(bounded) == len(limits) else None
        presets = [(str(seconds), label) for seconds, label in PRESETS if limit is None or seconds <= limit]
        if any(cell.may_never_expire for cell in types):
            presets.append((NEVER, _("Never")))
        field: Any = self.fields["expires_in"]
        field.choices = [("", unsaid), *presets]

    def clean_expires_in(self) -> str | int | None:
        value = self.cleaned_data["expires_in"]
        if value in {"", NEVER}:
            return value or None
        seconds = whole_seconds(value)
        if not 1 <= seconds <= CENTURY:
            raise forms.ValidationError(_("This moment has passed, or is too far away: choose one in the future."))
        return seconds

    def expiry(self) -> Expiry:
        """Nothing said is an empty one."""
        seconds = self.cleaned_data["expires_in"]
        return Expiry(
            at=self.cleaned_data["expires_at"],
            seconds=seconds if isinstance(seconds, int) else None,
            never=seconds == NEVER,
        )


class ProofFields(forms.Form):
    """What a client proves itself by: a secret that we make, or a key of which we get the public half."""

    proof = OfferedChoice(label=_("Proves itself by"), widget=ExplainedRadios, required=False, initial=Proof.SECRET)
    public_key = forms.CharField(
        label=_("Its public key"),
        required=False,
        max_length=LONGEST_KEY,
        widget=forms.Textarea(
            attrs={"rows": 6, "spellcheck": "false", "autocomplete": "off", "class": "code", "dir": "ltr"}
        ),
        help_text=_("A JWK or a PEM. The private half stays where it is: never paste it anywhere."),
    )

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["proof"].choices = [(proof.value, words[0]) for proof, words in PROOF_HELP.items()]
        self.fields["proof"].widget.explain = lambda value: (PROOF_HELP[Proof(value)][1], "")

    def clean_proof(self) -> str:
        value: str = self.cleaned_data["proof"]
        if value and value not in set(Proof):
            raise forms.ValidationError(_("Choose a secret or a public key."))
        return value

    def clean_public_key(self) -> str:
        """Judged before anything else is, so that nothing but a public key is ever shown again."""
        text = self.cleaned_data["public_key"]
        if text:
            try:
                read_public_key(text)
            except KeyRefused as refusal:
                raise forms.ValidationError(str(refusal)) from None
        return text

    def clean(self):
        cleaned = super().clean() or self.cleaned_data
        is_pasted, is_chosen = bool(cleaned.get("public_key")), cleaned.get("proof") == Proof.PUBLIC_KEY
        if is_chosen and not is_pasted and "public_key" not in self.errors:
            self.add_error("public_key", _("Paste the public key, or let it prove itself by a secret."))
        if is_pasted and not is_chosen:
            self.add_error("public_key", _("Choose above that it proves itself by a public key, or leave this empty."))
        return cleaned

    def add_error(self, field, error):
        """What was refused as a public key may be a private one: the page that says so does not repeat it."""
        super().add_error(field, error)
        if "public_key" in self.errors and self.data.get("public_key"):
            self.data = with_others(self.data, public_key="")

    def pasted_key(self) -> str | None:
        return self.cleaned_data.get("public_key") or None


class RestrictionFields(forms.Form):
    """From where, from when and for which APIs a token may be used."""

    under_restrictions: tuple[str, ...] = ("ip_allowlist", "not_before", "audiences")

    ip_allowlist = forms.CharField(
        label=_("Only from these networks"),
        required=False,
        max_length=2500,
        widget=forms.Textarea(attrs={"rows": 3, "placeholder": "203.0.113.0/24", "dir": "ltr"}),
        help_text=_("One IPv4 or IPv6 address or network a line. Empty: from anywhere."),
    )
    not_before = forms.DateTimeField(
        label=_("Not before"),
        required=False,
        widget=Moment(),
        help_text=format_lazy("{} {}", IN_WHICH_ZONE, _("It is refused until then. Empty: it works at once.")),
    )
    audiences = OfferedChoices(
        label=_("Only for these APIs"),
        required=False,
        widget=ExplainedCheckboxes,
        help_text=_("None ticked: for all of them, also those to come."),
    )

    def offer_audiences(self, environment: Environment, *, held: Sequence[str] = ()) -> None:
        """Where there is but one API there is nothing to choose, unless a token is `held` to some.

        Of those also what is gone: a browser sends what is ticked, and what isn't offered would read as unticked.
        """
        identifiers = list(environment.api_identifiers.order_by("-is_default", "uri"))
        if len(identifiers) < LEAST_TO_CHOOSE and not held:
            del self.fields["audiences"]
            return
        words = {each.uri: str(_("What is asked for if nothing is said.")) for each in identifiers if each.is_default}
        words[environment.issuer] = str(_("The API of this portal itself, for tokens that manage tokens."))
        field: Any = self.fields["audiences"]
        known = [*(each.uri for each in identifiers), environment.issuer]
        gone = [(uri, _("%(uri)s (no longer an API here)") % {"uri": uri}) for uri in held if uri not in known]
        field.choices = [*((uri, uri) for uri in known), *gone]
        field.widget.explain = lambda uri: (words.get(uri, ""), "")

    @property
    def is_restricted(self) -> bool:
        """Whether something under *Restrict further* is filled in or refused, and so must not stay out of sight."""
        return any(self[name].errors or self[name].value() for name in self.under_restrictions if name in self.fields)

    def restrictions(self) -> dict[str, Any]:
        """As `Order` and `services.edit` take them."""
        data = self.cleaned_data
        return {
            "ip_allowlist": tuple(line.strip() for line in data["ip_allowlist"].splitlines() if line.strip()),
            "not_before": data["not_before"],
            "audiences": tuple(data.get("audiences", ())),
        }


class TokenEditForm(VersionedForm, TokenNaming, RestrictionFields):
    """The name, the description and the restrictions of a token that exists, and which version of it was looked at."""

    def __init__(self, sent: Any, *, token: ApiToken) -> None:
        # The field shows minutes: what is not touched must come back as it was.
        not_before = token.not_before.replace(second=0, microsecond=0) if token.not_before else None
        initial = {
            "name": token.name,
            "description": token.description,
            "ip_allowlist": "\n".join(token.ip_allowlist),
            "not_before": not_before,
            "audiences": token.audiences,
        }
        super().__init__(sent, initial=initial, version=version(token))
        self.offer_audiences(token.environment, held=token.audiences)

    def changes(self) -> dict[str, Any]:
        """As `services.edit` takes them: only what was touched, since to restrict anew is to grant."""
        data = self.cleaned_data
        naming = {"name": data["name"], "description": data["description"], "expected": data["version"] or None}
        return naming | {name: value for name, value in self.restrictions().items() if name in self.changed_data}


class DeletionForm(forms.Form):
    compromised = forms.BooleanField(
        label=_("It leaked: delete also the tokens that it made"),
        required=False,
        help_text=_("Whoever had it may have made them. They stop at once and are gone too."),
    )


class TakeOverForm(RefusableForm):
    """What its roles have got since it was granted; all of it, unless something is unticked."""

    permissions = OfferedChoices(label=_("New in its roles"), widget=ExplainedCheckboxes)

    def __init__(self, *args, offered, **kwargs):
        super().__init__(*args, **kwargs)
        because = {each.permission: each.because for each in offered}
        field = self.fields["permissions"]
        field.choices = [(key, key) for key in because]
        field.initial = list(because)
        field.widget.explain = lambda value: (because.get(value, ""), "")


class TokenForm(NonceForm, TokenNaming, ExpiryFields, ProofFields, RestrictionFields):
    """A new token: four fields that matter, the rest under *Restrict further*."""

    owner = OfferedChoice(label=_("Who is it for?"), widget=ExplainedRadios)
    roles = OfferedChoices(
        label=_("Roles"),
        required=False,
        widget=ExplainedCheckboxes,
        help_text=_("Never more than you may do yourself. For yourself, none means: the same as you, at all times."),
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
    field_order = ["nonce", "name", "owner", "roles", "expires_in", "expires_at", "kind", "proof", "public_key"]
    under_restrictions = (
        *RestrictionFields.under_restrictions, "public_key", "permissions", "without", "description",
    )  # fmt: skip

    @property
    def is_restricted(self) -> bool:
        return super().is_restricted or bool(self.errors.keys() & {"kind", "proof"})

    def __init__(self, *args, principal: PagePrincipal, **kwargs):
        super().__init__(*args, **kwargs)
        self.principal = principal
        types = TokenType.objects.filter(environment=principal.environment, is_enabled=True)
        owners = [Owner.ENVIRONMENT] if principal.tenant is None else [Owner.TENANT, Owner.USER]
        self._offer_cells(list(types.filter(owner__in=owners)))
        self._offer_roles()
        self.offer_audiences(principal.environment)
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
        self.offer_lifetimes(types, unsaid=_default_words({cell.default_lifetime for cell in types}))

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

    # What says what it may do; the rest is its name, and how it proves itself.
    judged = frozenset({*RestrictionFields.under_restrictions, *ExpiryFields.base_fields, *OF_GRANT})

    def order(self) -> Order:
        """What the person asks for."""
        return self._order(self.cleaned_data)

    def draft(self) -> Order | None:
        """The order as far as it is filled in, under no name yet; None as long as nobody knows for whom it is."""
        data = self.cleaned_data
        if not (data.get("owner") and data.get("kind")) or not self.judged.isdisjoint(self.errors):
            return None
        if data["owner"] != Owner.USER and not (data["roles"] or data.get("permissions")):
            return None
        return replace(self._order({"name": "", "description": "", **data}), name=str(NAMELESS), public_key=None)

    def _order(self, data: dict[str, Any]) -> Order:
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
            expiry=self.expiry(),
            public_key=self.pasted_key(),
            membership=self.principal.membership,
            **self.restrictions(),
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
    named = listed(ordered[:SHOWN_PERMISSIONS])
    if more <= 0:
        return named
    return ngettext("%(words)s and %(count)s more", "%(words)s and %(count)s more", more) % {
        "words": named,
        "count": more,
    }


def _pairs(keys: Iterable[str]) -> list[tuple[str, str]]:
    return [(key, key) for key in sorted(keys)]
