"""Forms about people. They offer; the service refuses, at the field it is about."""

from django import forms
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from apitokens.access import grantor_for
from apitokens.ceiling import OutOfReach
from apitokens.changing import version_of
from apitokens.governance import members
from apitokens.governance.environments import OwnersOnly
from apitokens.governance.offers import EMAIL_MAX
from apitokens.orders import NAME_MAX
from apitokens.pages.choices import ExplainedCheckboxes, OfferedChoices
from apitokens.pages.forms import in_short
from apitokens.pages.places import PagePrincipal
from apitokens.pages.refusable import RefusableForm
from audit.services import Refusal
from tenants.models import Membership
from tenants.policy import PermissionMissing, why_not
from tenants.queries import available_roles, held_roles

NOT_TO_YOURSELF = _("nobody gives themselves a role: somebody else who may grant it has to.")


class AnsweredForm(RefusableForm):
    """Takes the service's refusal; who may not send it at all made no mistake in it, and is answered 403."""

    def add_refusal(self, refusal: Refusal) -> None:
        if isinstance(refusal, PermissionMissing | OwnersOnly | OutOfReach):
            raise refusal
        super().add_refusal(refusal)


class RolesForm(AnsweredForm):
    """Which roles somebody is to have; those above the ceiling are shown with the reason."""

    roles = OfferedChoices(label=_("Roles"), required=False, widget=ExplainedCheckboxes)

    def __init__(self, *args, principal: PagePrincipal, member: Membership | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self._has = {role.key for role in member.roles.all()} if member else set()
        self._is_own = member is not None and members.is_own(principal, member)
        roles = list(available_roles(principal.environment, principal.tenant).order_by("level", "key"))
        held = {role.key: role for role in held_roles(roles).values()}
        grantor, strict = grantor_for(principal), principal.environment.strict_ceiling

        def explain(key: str) -> tuple[str, str]:
            if key not in held:
                return "", ""
            reason = why_not(grantor, held[key], strict=strict)
            if not reason and self._is_own and key not in self._has:
                reason = str(NOT_TO_YOURSELF)
            return in_short(held[key].permissions), capfirst(reason)

        self._offer([(role.key, role.name) for role in roles], explain)
        self.above = next(
            (reason for key in sorted(self._has) if (reason := why_not(grantor, held[key], strict=strict))), ""
        )
        # To stop somebody is no granting: their level alone counts.
        self.may_be_stopped = not any(why_not(grantor, held[key], strict=False) for key in self._has)

    def _offer(self, choices, explain):
        field = self.fields["roles"]
        field.choices, field.widget.explain, field.initial = choices, explain, sorted(self._has)


class MemberRolesForm(RolesForm):
    version = forms.CharField(widget=forms.HiddenInput, max_length=64, required=False)

    def __init__(self, *args, member: Membership, **kwargs):
        super().__init__(*args, member=member, **kwargs)
        self.fields["version"].initial = version_of(members.snapshot(member))


class InviteForm(RolesForm):
    email = forms.CharField(
        label=_("E-mail"),
        max_length=EMAIL_MAX,
        widget=forms.EmailInput(attrs={"autocomplete": "off"}),
        help_text=_("Only whoever signs in with this address can accept."),
    )

    field_order = ["email", "roles"]


class RemoveForm(AnsweredForm):
    """Which of the tenant's tokens that somebody knows go with them."""

    delete_tokens = OfferedChoices(
        label=_("Delete these tokens too"),
        required=False,
        widget=ExplainedCheckboxes,
        help_text=_("They are the tenant's and go on working otherwise. This person may have kept their secrets."),
    )

    def __init__(self, *args, tokens, **kwargs):
        """`tokens` are (token, note)."""
        super().__init__(*args, **kwargs)
        notes = {token.token_id: note for token, note in tokens}
        field = self.fields["delete_tokens"]
        field.choices = [(token.token_id, token.name) for token, _note in tokens]
        field.widget.explain = lambda token_id: (notes.get(token_id, ""), "")
        if not tokens:
            del self.fields["delete_tokens"]

    def chosen(self) -> list[str]:
        return self.cleaned_data.get("delete_tokens", [])


class JoinForm(AnsweredForm):
    """A new account, for the invitation's e-mail."""

    name = forms.CharField(
        label=_("Your name"), max_length=NAME_MAX, widget=forms.TextInput(attrs={"autocomplete": "name"})
    )
    password = forms.CharField(
        label=_("Password"),
        max_length=4096,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text=_("At least 12 characters. A few random words are easy to remember and hard to guess."),
    )
