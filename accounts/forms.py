import re
import struct
import zoneinfo
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from allauth.account.forms import ResetPasswordForm
from allauth.core import context
from allauth.mfa.adapter import get_adapter
from allauth.mfa.base import forms as mfa
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.forms import ActivateTOTPForm
from allauth.mfa.totp.internal.auth import SECRET_SESSION_KEY
from allauth.mfa.webauthn.forms import (
    AddWebAuthnForm,
    AuthenticateWebAuthnForm,
    EditWebAuthnForm,
    LoginWebAuthnForm,
    ReauthenticateWebAuthnForm,
)
from django import forms
from django.conf import settings
from django.core.cache import cache as shared
from django.utils.translation import gettext_lazy

from accounts import seeds
from accounts.models import User
from accounts.security import CODES, record_of

NAME_MAX = 60
MOST_PASSKEYS = 20
UNREADABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, struct.error)


class LocalResetPasswordForm(ResetPasswordForm):
    """Only people who sign in here have a password to reset; an identity vouched for elsewhere has none (R12)."""

    def clean_email(self):
        email = super().clean_email()
        self.users = [user for user in self.users if user.voucher_id is None]
        return email


class ProfileForm(forms.ModelForm):
    time_zone = forms.ChoiceField(
        label=gettext_lazy("Time zone"),
        required=False,
        help_text=gettext_lazy("Times are shown in it, with UTC beside."),
    )

    language = forms.ChoiceField(label=gettext_lazy("Language"), required=False)

    class Meta:
        model = User
        fields = ["name", "language", "time_zone"]
        labels = {"name": gettext_lazy("Name")}
        help_texts = {"name": gettext_lazy("As others see you: in lists of members, and beside what you did.")}

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.fields["name"].widget.attrs["autocomplete"] = "name"
        self.fields["language"].choices = [  # type: ignore[attr-defined]
            ("", gettext_lazy("As the browser asks")),
            *settings.LANGUAGES,
        ]
        self.fields["time_zone"].choices = [  # type: ignore[attr-defined]
            ("", "UTC"),
            *((name, name.replace("_", " ")) for name in time_zones()),
        ]

    def clean_name(self) -> str:
        name = " ".join(self.cleaned_data["name"].split())
        if not name.isprintable():
            raise forms.ValidationError(gettext_lazy("Use letters, digits and other visible characters."))
        return name


@cache
def time_zones() -> tuple[str, ...]:
    """The names of places, as IANA has them; not the old ones that stand for no place."""
    names = zoneinfo.available_timezones()
    return tuple(sorted(name for name in names if "/" in name and not name.startswith(("Etc/", "SystemV/", "posix/"))))


class SealedTOTPForm(ActivateTOTPForm):
    """Keeps the seed that is offered encrypted in the session, too, which lies in the database."""

    def __init__(self, *args, **kwargs) -> None:
        session = context.request.session
        kept = session.get(SECRET_SESSION_KEY)
        super().__init__(*args, **kwargs)
        self.fields["code"].widget = forms.TextInput({"autocomplete": "one-time-code", "inputmode": "numeric"})
        if self.is_bound and kept:
            self.secret = seeds.unseal(kept)
        else:
            session[SECRET_SESSION_KEY] = seeds.seal(self.secret)


class CredentialField(forms.JSONField):
    """What a browser says of a passkey; of anybody's making, as long as it is not looked at. Never sent back."""

    widget = forms.HiddenInput

    def bound_data(self, data: object, initial: object) -> object:
        return initial

    def to_python(self, value):
        try:
            said = super().to_python(value)
        except RecursionError as error:
            raise get_adapter().validation_error("incorrect_code") from error
        if said is not None and not (isinstance(said, dict) and isinstance(said.get("response"), dict)):
            raise get_adapter().validation_error("incorrect_code")
        return said


@contextmanager
def readable() -> Iterator[None]:
    """The library that reads what a browser says of a passkey stumbles over what no browser says."""
    try:
        yield
    except UNREADABLE as error:
        raise get_adapter().validation_error("incorrect_code") from error


class LoginByPasskeyForm(LoginWebAuthnForm):
    credential = CredentialField()

    def clean_credential(self) -> Authenticator:
        with readable():
            return super().clean_credential()


class SecondPasskeyForm(AuthenticateWebAuthnForm):
    credential = CredentialField()

    def clean_credential(self) -> Authenticator:
        with readable():
            return super().clean_credential()


class ConfirmByPasskeyForm(ReauthenticateWebAuthnForm):
    credential = CredentialField()

    def clean_credential(self) -> Authenticator:
        with readable():
            return super().clean_credential()


class PasskeyForm(AddWebAuthnForm):
    credential = CredentialField()
    name = forms.CharField(label=gettext_lazy("Name"), required=False, max_length=NAME_MAX)

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.fields["passwordless"].initial = True
        self.fields["passwordless"].label = gettext_lazy("I can sign in with it instead of my password")
        self.fields["passwordless"].help_text = gettext_lazy(
            "Without this it is asked for after the password. Choose that for a security key with little room."
        )

    def clean(self) -> dict:
        if Authenticator.objects.filter(user=self.user, type=Authenticator.Type.WEBAUTHN).count() >= MOST_PASSKEYS:
            raise forms.ValidationError(gettext_lazy("You have as many passkeys as one may have: remove one first."))
        with readable():
            return super().clean()


class RenameForm(EditWebAuthnForm):
    name = forms.CharField(label=gettext_lazy("Name"), max_length=NAME_MAX)


class _CodeForm(mfa.BaseAuthenticateForm):
    """A code opens once, for as long as it is accepted: allauth forgets it after one period, and accepts it for more.

    A recovery code that was used is in the record.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.fields["code"].label = gettext_lazy("Code from your app, or a recovery code")
        self.fields["code"].widget = forms.TextInput({"autocomplete": "one-time-code", "inputmode": "numeric"})

    def clean_code(self) -> str:
        code = super().clean_code()
        periods = 2 * settings.MFA_TOTP_TOLERANCE + 1
        if self.authenticator.type == Authenticator.Type.TOTP and not shared.add(
            f"totp-used:{self.user.pk}:{re.sub(r'[^0-9]', '', code)}", True, timeout=periods * 30
        ):
            raise get_adapter().validation_error("incorrect_code")
        return code

    def record_use(self) -> None:
        if self.authenticator.type == CODES:
            record_of(self.user, context.request, "recovery_codes.used")


class AuthenticateForm(_CodeForm, mfa.AuthenticateForm):
    def save(self) -> None:
        super().save()
        self.record_use()


class ReauthenticateForm(_CodeForm, mfa.ReauthenticateForm):
    def save(self) -> None:
        super().save()
        self.record_use()
