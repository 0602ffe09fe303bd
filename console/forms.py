"""Forms of the console give shapes and choices; whether something may be is the service's to say."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from apitokens.governance.environments import IDENTIFIERS_MAX, URI_MAX
from apitokens.governance.tenants import EXTERNAL_ID_MAX
from apitokens.orders import NAME_MAX
from apitokens.origins import ORIGIN_MAX, ORIGINS_MAX
from apitokens.pages.choices import OfferedChoice
from apitokens.pages.refusable import RefusableForm, VersionedForm
from console.token_type_forms import NEVER, DurationField
from tenants.models import Environment, Role

SLUG_MAX = 63
ALGORITHMS = [
    (Environment.Algorithm.ES256, _("ES256: short and quick, known to every library")),
    (Environment.Algorithm.RS256, _("RS256: for verifiers that know nothing else")),
    (Environment.Algorithm.EDDSA, _("EdDSA (Ed25519): if all your verifiers know it")),
]


class TypedName(RefusableForm):
    name = forms.CharField(label=_("Its name"), max_length=NAME_MAX, widget=forms.TextInput({"autocomplete": "off"}))


class EnvironmentFields(RefusableForm):
    name = forms.CharField(label=_("Name"), max_length=NAME_MAX)
    colour = OfferedChoice(
        label=_("Colour"),
        choices=Environment.Colour.choices,
        widget=forms.RadioSelect,
        help_text=_("On every page, so that nobody takes production for staging."),
    )


class NewEnvironmentForm(EnvironmentFields):
    slug = forms.CharField(
        label=_("Address"),
        max_length=SLUG_MAX,
        help_text=_("Stands in the issuer of its JWTs and in the console's address. It can never be changed."),
    )
    audience = forms.CharField(
        label=_("API identifier"),
        max_length=URI_MAX,
        widget=forms.TextInput({"inputmode": "url", "placeholder": "https://api.example.com", "dir": "ltr"}),
        help_text=_("A URI that names your API: the audience of the JWTs. You can add more later."),
    )
    token_prefix = forms.CharField(
        label=_("Token prefix"),
        max_length=32,
        required=False,
        help_text=_("How its tokens and secrets begin, so that leaks are found. Empty: as its address."),
    )

    field_order = ["name", "slug", "audience", "colour", "token_prefix"]


class SettingsForm(VersionedForm, EnvironmentFields):
    strict_ceiling = forms.BooleanField(
        label=_("Strict ceiling"),
        required=False,
        help_text=_(
            "Nobody grants a role that holds a permission they lack, even if its level is below their own. "
            "Without it the level alone decides."
        ),
    )
    api_identifiers = forms.CharField(
        label=_("API identifiers"),
        max_length=IDENTIFIERS_MAX * (URI_MAX + 2),
        widget=forms.Textarea({"rows": 3, "dir": "ltr"}),
        help_text=_(
            "One URI a line; the first is the audience of JWTs for which none is asked. When the first changes, "
            "JWTs issued before are refused by Tallystick's own API."
        ),
    )
    default_role = OfferedChoice(
        label=_("Default client of new tenants"),
        required=False,
        help_text=_("Each new tenant is born with a client of this role, without a secret until one is made for it."),
    )

    signing_algorithm = OfferedChoice(
        label=_("Signing algorithm"),
        choices=ALGORITHMS,
        help_text=_("Of signing keys to come. The key that signs goes on as it is until you rotate it."),
    )

    reauthenticate_after = DurationField(
        label=_("Ask people again who they are after"),
        word=(NEVER, _("never ask")),
        help_text=_(
            "Who wants to make, rotate or delete a token has shown it within this time, by signing in or by "
            "confirming. One minute to 24 hours."
        ),
    )

    embedding_origins = forms.CharField(
        label=_("Embedding origins"),
        required=False,
        max_length=ORIGINS_MAX * (ORIGIN_MAX + 2),
        widget=forms.Textarea({"rows": 2, "placeholder": "https://app.example.com", "dir": "ltr"}),
        help_text=_(
            "Where your own product may show the portal in a frame, and where people go back to from it: one origin a "
            "line. Your backend opens it for those who are signed in there."
        ),
    )

    field_order = [
        "version",
        "name",
        "colour",
        "strict_ceiling",
        "reauthenticate_after",
        "embedding_origins",
        "api_identifiers",
        "signing_algorithm",
        "default_role",
    ]

    def __init__(self, *args, environment, **kwargs):
        super().__init__(*args, **kwargs)
        roles = Role.objects.filter(environment=environment, tenant__isnull=True).order_by("level", "key")
        self.fields["default_role"].choices = [("", _("None"))] + [(role.key, role.name) for role in roles]

    def change(self) -> dict[str, Any]:
        after = self.cleaned_data["reauthenticate_after"]
        data = {
            **self.cleaned_data,
            "api_identifiers": self.cleaned_data["api_identifiers"].split(),
            "embedding_origins": self.cleaned_data["embedding_origins"].split(),
            "reauthenticate_after": 0 if after == NEVER else after,
        }
        return {"expected": data.pop("version") or "", **data}


class TenantFields(RefusableForm):
    name = forms.CharField(label=_("Name"), max_length=NAME_MAX)
    external_id = forms.CharField(
        label=_("External id"),
        max_length=EXTERNAL_ID_MAX,
        required=False,
        help_text=_("Your own id of this customer: your backend can name the tenant by it, and JWTs carry it."),
    )


class NewTenantForm(TenantFields):
    slug = forms.CharField(
        label=_("Address"),
        max_length=SLUG_MAX,
        help_text=_("Stands in the address of its portal. It can never be changed, nor used again."),
    )

    field_order = ["name", "slug", "external_id"]


class TenantForm(VersionedForm, TenantFields):
    field_order = ["version", "name", "external_id"]


class InvitationForm(RefusableForm):
    email = forms.EmailField(label=_("E-mail"), max_length=254)
    roles = OfferedChoice(label=_("Role"))

    def __init__(self, *args, environment, **kwargs):
        super().__init__(*args, **kwargs)
        roles = list(Role.objects.filter(environment=environment, tenant__isnull=True).order_by("-level", "key"))
        self.fields["roles"].choices = [(role.key, role.name) for role in roles]
        self.fields["roles"].initial = next((role.key for role in roles if role.key == "admin"), None)


class CopyForm(VersionedForm):
    source = OfferedChoice(label=_("From"))

    def __init__(self, *args, sources, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["source"].choices = [(source.slug, source.name) for source in sources]
