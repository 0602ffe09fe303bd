"""When a person last showed who they are, and how they show it again.

By signing in or by confirming: the password, a code, or a passkey, under the limits of signing in.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from allauth.account.forms import ReauthenticateForm as PasswordForm
from allauth.account.internal.flows.login import (
    AUTHENTICATION_METHODS_SESSION_KEY,
    get_authentication_records,
    record_authentication,
)
from allauth.account.internal.flows.reauthentication import reauthenticate_by_password
from allauth.core import ratelimit
from allauth.mfa.models import Authenticator
from allauth.mfa.webauthn.internal.auth import begin_authentication
from django import forms
from django.contrib.auth import login
from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy

from accounts.forms import ConfirmByPasskeyForm as PasskeyForm
from accounts.forms import ReauthenticateForm as CodeForm
from accounts.models import User

BACKEND = "allauth.account.auth_backends.AuthenticationBackend"
# Before the names of the fields: they are sent along with those of any form.
PREFIX = "confirm"
PAGES = {
    "password": "account_reauthenticate",
    "code": "mfa_reauthenticate",
    "credential": "mfa_reauthenticate_webauthn",
}
FORMS: Mapping[str, Callable[..., forms.Form]] = {"password": PasswordForm, "code": CodeForm, "credential": PasskeyForm}


def last_proof(request: HttpRequest, user: User) -> datetime | None:
    """When the person last showed in this session who they are."""
    moments = [record["at"] for record in get_authentication_records(request, user)]
    return datetime.fromtimestamp(max(moments), tz=UTC) if moments else None


def sign_in_invited(request: HttpRequest, user: User) -> None:
    """Whoever has just chosen the account's password, by a link that only its owner got."""
    login(request, user, backend=BACKEND)
    record_authentication(request, user, method="password")


def sign_in_vouched(request: HttpRequest, user: User, *, proven_at: datetime | None) -> None:
    """Somebody for whom their voucher has just spoken, which says when they showed it who they are, or does not."""
    login(request, user, backend=BACKEND)
    record_vouched(request, user, proven_at=proven_at)


def record_vouched(request: HttpRequest, user: User, *, proven_at: datetime | None) -> None:
    """That there is a session proves nothing of lately: without a time it is no proof at all."""
    record_authentication(request, user, method="voucher")
    records = get_authentication_records(request, user)
    records[-1]["at"] = proven_at.timestamp() if proven_at else 0
    request.session[AUTHENTICATION_METHODS_SESSION_KEY] = records


@dataclass
class Confirmation:
    """What one person is asked who has to show again who they are, and what they said."""

    request: HttpRequest
    user: User

    @cached_property
    def ways(self) -> frozenset[str]:
        """Which of FORMS are open to the person; none to somebody whom another system vouches for."""
        types = set(Authenticator.objects.filter(user=self.user).values_list("type", flat=True))
        open_to = {
            "password": self.user.has_usable_password(),
            "code": bool(types & {Authenticator.Type.TOTP, Authenticator.Type.RECOVERY_CODES}),
            "credential": Authenticator.Type.WEBAUTHN in types,
        }
        return frozenset(way for way, is_open in open_to.items() if is_open and self.user.voucher_id is None)

    @property
    def url(self) -> str:
        """The page that asks for the first of the ways open to them."""
        return reverse(next(name for way, name in PAGES.items() if way in self.ways))

    @cached_property
    def said(self) -> str:
        """The way that was taken, if any."""
        sent = (way for way in FORMS if self.request.POST.get(f"{PREFIX}-{way}"))
        return next((way for way in sent if way in self.ways), "")

    @cached_property
    def forms(self) -> dict[str, forms.Form]:
        asked = {
            way: form(self.request.POST if way == self.said else None, user=self.user, prefix=PREFIX)
            for way, form in FORMS.items()
            if way in self.ways
        }
        for form in asked.values():
            form.use_required_attribute = False  # one of them is enough
        return asked

    @property
    def passkey_options(self) -> dict[str, Any] | None:
        """What the browser is to ask the passkey."""
        return {"request_options": begin_authentication(self.user)} if "credential" in self.ways else None

    def succeeds(self) -> bool:
        """Whether what was said shows it; if so that is a proof from now on. False if it was said too often, too."""
        if not self.said:
            return False
        form = self.forms[self.said]
        if not ratelimit.consume(self.request, action="reauthenticate", user=self.user):
            form.add_error(None, gettext_lazy("That was too often. Wait for a minute."))
            return False
        if not form.is_valid():
            return False
        if self.said == "password":
            reauthenticate_by_password(self.request)
        else:
            form.save()  # type: ignore[attr-defined]  # allauth's, which records it
        return True
