"""Forms about the vendor's people. They offer; the service refuses, at the field it is about."""

from django import forms
from django.utils.translation import gettext_lazy as _

from apitokens.changing import version_of
from apitokens.governance import vendor_members
from apitokens.governance.offers import EMAIL_MAX
from apitokens.orders import InvalidField
from apitokens.pages.choices import ExplainedRadios, OfferedChoice, OfferedChoices
from apitokens.pages.member_forms import AnsweredForm
from apitokens.pages.member_rows import ROLE_NAMES
from tenants.models import Environment, VendorMembership

ROLE_HELP = {
    VendorMembership.Role.OWNER: _("May do everything, and alone decides who works for the vendor."),
    VendorMembership.Role.ADMIN: _("May do everything in their environments, except decide about people."),
    VendorMembership.Role.AUDITOR: _("Sees everything in their environments and changes nothing."),
}
EVERYWHERE, LISTED = "all", "listed"


class PlaceForm(AnsweredForm):
    """What somebody may do for the vendor, and where."""

    role = OfferedChoice(label=_("Role"), widget=ExplainedRadios)
    reach = OfferedChoice(
        label=_("Where"),
        widget=forms.RadioSelect,
        choices=[(EVERYWHERE, _("In all environments, those to come included")), (LISTED, _("Only in these:"))],
        initial=EVERYWHERE,
    )
    environments = OfferedChoices(label=_("Environments"), required=False, widget=forms.CheckboxSelectMultiple)

    def __init__(self, *args, principal, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["role"].choices = list(ROLE_NAMES.items())
        self.fields["role"].widget.explain = lambda value: (ROLE_HELP[VendorMembership.Role(value)], "")
        self.fields["role"].initial = VendorMembership.Role.AUDITOR
        found = Environment.objects.filter(vendor=principal.environment.vendor_id).order_by("name", "slug")
        self._offered = {environment.slug: environment for environment in found}
        self.fields["environments"].choices = [(slug, offered.name) for slug, offered in self._offered.items()]

    def chosen(self) -> list[Environment] | None:
        """None for all of them; raises InvalidField for one that is not the vendor's."""
        if self.cleaned_data["reach"] == EVERYWHERE:
            return None
        if any(slug not in self._offered for slug in self.cleaned_data["environments"]):
            raise InvalidField("environments", str(_("This is no environment of yours.")))
        return [self._offered[slug] for slug in self.cleaned_data["environments"]]


class PersonForm(PlaceForm):
    version = forms.CharField(widget=forms.HiddenInput, max_length=64, required=False)

    def __init__(self, *args, person: VendorMembership, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["version"].initial = version_of(vendor_members.snapshot(person))
        self.fields["role"].initial = person.role
        self.fields["reach"].initial = EVERYWHERE if person.in_all_environments else LISTED
        self.fields["environments"].initial = [environment.slug for environment in person.environments.all()]


class PersonInviteForm(PlaceForm):
    email = forms.CharField(
        label=_("E-mail"),
        max_length=EMAIL_MAX,
        widget=forms.EmailInput(attrs={"autocomplete": "off"}),
        help_text=_("Only whoever signs in with this address can accept."),
    )

    field_order = ["email", "role", "reach", "environments"]
