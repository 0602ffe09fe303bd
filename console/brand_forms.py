from typing import Any

from django import forms
from django.core.files.uploadedfile import UploadedFile
from django.utils.translation import gettext_lazy as _

from apitokens.governance.branding import LOGO_MAX, NAME_MAX
from apitokens.pages.refusable import VersionedForm


class BrandForm(VersionedForm):
    name = forms.CharField(
        label=_("Name"),
        max_length=NAME_MAX,
        required=False,
        help_text=_("In the header and the title of every page of a tenant. Empty: Tallystick."),
    )
    accent = forms.CharField(
        label=_("Accent colour"),
        max_length=16,
        required=False,
        widget=forms.TextInput({"placeholder": "#1a6650", "spellcheck": "false", "autocomplete": "off", "dir": "ltr"}),
        help_text=_(
            "Of buttons and, as far as it can be read, of links. It has to stand out from the page in light and in "
            "dark. Empty: ours."
        ),
    )
    logo = forms.FileField(
        label=_("Logo"),
        required=False,
        allow_empty_file=True,
        widget=forms.FileInput({"accept": "image/png,image/webp"}),
        help_text=_(
            "A PNG or WebP of at most 32 KiB, 16 to 1,024 pixels wide and high. It is shown 28 pixels high, on white."
        ),
    )
    without_logo = forms.BooleanField(label=_("Take the logo away"), required=False)

    field_order = ["version", "name", "accent", "logo", "without_logo"]

    def __init__(self, *args: Any, has_logo: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not has_logo:
            del self.fields["without_logo"]

    def change(self) -> dict[str, Any]:
        """What is said of the logo goes to the service only where something is: nothing chosen leaves it as it is."""
        data = self.cleaned_data
        change = {"expected": data["version"] or "", "name": data["name"], "accent": data["accent"]}
        uploaded: UploadedFile | None = data["logo"]
        if uploaded:
            # One byte more than there may be is enough for the service to refuse it.
            change["logo"] = uploaded.read(LOGO_MAX + 1)
        elif data.get("without_logo"):
            change["logo"] = b""
        return change
