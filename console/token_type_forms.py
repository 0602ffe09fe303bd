"""The settings of a token type in the units that people think in. Limits are the service's to say."""

from typing import Any

from django import forms
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from apitokens.changing import version_of
from apitokens.governance.token_types import EXISTING, TypeChange, snapshot
from apitokens.models import DAY, HOUR, Kind, TokenType
from apitokens.pages.choices import ExplainedRadios, OfferedChoice, OfferedChoices
from apitokens.pages.forms import in_short
from apitokens.pages.refusable import VersionedForm
from tenants.queries import available_roles, held_roles

MINUTE = 60
NEVER, NO_LIMIT = "never", "none"
UNITS = ((str(DAY), _("days")), (str(HOUR), _("hours")), (str(MINUTE), _("minutes")), ("1", _("seconds")))
AMOUNT_MAX = 10_000_000_000
ALL, LISTED = "all", "listed"


class DurationInput(forms.MultiWidget):
    """A number and its unit; the unit can be a word that needs no number."""

    use_fieldset = False

    def __init__(self, units: Any = UNITS) -> None:
        unit = forms.Select({"aria-label": _("Unit")}, choices=units)
        super().__init__([forms.NumberInput({"min": 0, "step": 1}), unit])

    def decompress(self, value: int | str | None) -> list[str | None]:
        if value is None or isinstance(value, str):
            return [None, value]
        size = next(int(size) for size, _word in UNITS if value % int(size) == 0)
        return [str(value // size), str(size)]

    def use_required_attribute(self, initial: Any) -> bool:
        """The number is not, where a word is chosen as the unit."""
        return False

    def id_for_label(self, id_: str) -> str:
        return f"{id_}_0" if id_ else id_

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> Any:
        return format_html('<div class="duration">{}</div>', super().render(name, value, attrs, renderer))


class DurationField(forms.MultiValueField):
    """Seconds; with `word`, (code, label), also the code, for what is no duration."""

    def __init__(self, *, word: tuple[str, Any] | None = None, **options: Any) -> None:
        units = [*UNITS, word] if word else list(UNITS)
        self.word = word[0] if word else None
        fields = (
            forms.IntegerField(required=False, min_value=0, max_value=AMOUNT_MAX),
            forms.ChoiceField(choices=units),
        )
        super().__init__(fields, widget=DurationInput(units), require_all_fields=False, **options)

    def compress(self, values: list[Any]) -> int | str:
        amount, unit = values or (None, "")
        if self.word and unit == self.word:
            return self.word
        if amount is None or not unit:
            raise forms.ValidationError(_("Give a whole number and its unit."))
        return int(amount) * int(unit)


class TypeForm(VersionedForm):
    """All settings of one cell; what makes no difference to a kind is not there."""

    is_enabled = forms.BooleanField(
        label=_("Such tokens may exist"),
        required=False,
        help_text=_("Switched off, none can be made, and those that there are stop at once. On again, they resume."),
    )
    default_lifetime = DurationField(
        label=_("Expires by default after"),
        word=(NEVER, _("never")),
        help_text=_("When whoever makes it says nothing."),
    )
    longest_lifetime = DurationField(label=_("At the latest after"), word=(NO_LIMIT, _("no limit")))
    may_never_expire = forms.BooleanField(
        label=_("It may also never expire"),
        required=False,
        help_text=_("The limit above does not bind tokens that never expire."),
    )
    jwt_lifetime = DurationField(
        label=_("Its JWTs live for"),
        help_text=_("One minute to 30 days. Who verifies them offline accepts them for so long after an end."),
    )
    carries = OfferedChoice(
        label=_("Roles"),
        choices=[(ALL, _("Every role")), (LISTED, _("Only these"))],
        widget=ExplainedRadios,
    )
    roles = OfferedChoices(label=_("Only these roles"), required=False, widget=forms.CheckboxSelectMultiple)
    requires_ip_allowlist = forms.BooleanField(
        label=_("It needs an IP allowlist"),
        required=False,
        help_text=_("Each names the networks from which it can be used."),
    )
    quota = forms.IntegerField(
        label=_("How many an owner may have"),
        required=False,
        min_value=0,
        max_value=AMOUNT_MAX,
        help_text=_("Expired ones don't count. Empty: no limit."),
    )
    longest_overlap = DurationField(
        label=_("Longest overlap of two secrets"),
        help_text=_("How long the old secret may go on beside the new one when a token is rotated. 0 to 30 days."),
    )
    accepts_basic = forms.BooleanField(
        label=_("Takes HTTP Basic on the API"),
        required=False,
        help_text=_("Client id and secret straight on the API, without a JWT. Simpler, and the secret travels more."),
    )
    may_make_tokens = forms.BooleanField(
        label=_("May make tokens"),
        required=False,
        help_text=_("They expire no later than it does, and may do no more."),
    )

    def __init__(self, *args: Any, token_type: TokenType, **kwargs: Any) -> None:
        settings = snapshot(token_type)
        initial = {**settings, "carries": ALL if settings["roles"] is None else LISTED}
        initial["default_lifetime"] = _or_word(settings["default_lifetime"], NEVER)
        initial["longest_lifetime"] = _or_word(settings["longest_lifetime"], NO_LIMIT)
        super().__init__(*args, version=version_of(settings), initial=initial, **kwargs)
        roles = list(available_roles(token_type.environment, None).order_by("level", "key"))
        held = {role.key: role for role in held_roles(roles).values()}
        self.fields["roles"].choices = [  # type: ignore[attr-defined]
            (role.key, f"{role.name} ({in_short(held[role.key].permissions)})") for role in roles
        ]
        if token_type.kind != Kind.CLIENT_CREDENTIALS:
            del self.fields["jwt_lifetime"], self.fields["accepts_basic"]

    def change(self) -> TypeChange:
        """Every setting on the page, as it stands there."""
        data = dict(self.cleaned_data)
        for name in ("version", "carries"):
            del data[name]
        for name in ("default_lifetime", "longest_lifetime"):
            data[name] = None if isinstance(data[name], str) else data[name]
        data["roles"] = tuple(data["roles"]) if self.cleaned_data["carries"] == LISTED else None
        return TypeChange(**data)


WORDS = {
    "leave": (_("Leave them"), _("They go on as they are, and stay listed as out of policy.")),
    "cap": (_("Cap them"), _("They expire at the latest when one made now would. What a date can't mend stays.")),
    "disable": (_("Disable them"), _("They stop at once. Each can be enabled again.")),
}


class ExistingForm(forms.Form):
    """What becomes of tokens that are out of policy by the change."""

    existing = OfferedChoice(
        label=_("Tokens that are out of policy"),
        choices=[(code, WORDS[code][0]) for code in EXISTING],
        initial="leave",
        required=False,
        widget=ExplainedRadios,
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["existing"].widget.explain = lambda code: (
            WORDS[code][1] if code in WORDS else "",
            "",
        )


def _or_word(seconds: object, word: str) -> object:
    return word if seconds is None else seconds
