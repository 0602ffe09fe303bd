from urllib.parse import urlsplit

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core import context
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest
from django.utils.translation import gettext as _

from accounts import languages, seeds
from accounts.models import User
from accounts.security import record_of
from accounts.visits import client_ip

PRODUCT = "Tallystick"


class AccountAdapter(DefaultAccountAdapter):
    """Accounts come by invitation, voucher or `init`; nobody signs up."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def get_user_display(self, user: User) -> str:
        return str(user)

    def send_mail(self, template_prefix: str, email: str, context: dict[str, object]) -> None:
        with languages.for_mail_to(email):
            super().send_mail(template_prefix, email, context)

    def get_client_ip(self, request: HttpRequest) -> str:
        """The one that everything else here goes by; limits by address need one."""
        address = client_ip(request)
        if address is None:
            raise PermissionDenied(_("It can't be told from which address this request came."))
        return address

    def reauthenticate(self, user: User, password: str) -> bool:
        """By the e-mail that signs in, under the limits of signing in."""
        found = self.authenticate(context.request, email=user.email, password=password)
        return found is not None and found.pk == user.pk

    def set_password(self, user: User, password: str) -> None:
        with transaction.atomic():
            super().set_password(user, password)
            record_of(user, context.request, "password.changed")


class MFAAdapter(DefaultMFAAdapter):
    """Seeds are encrypted at rest; what a passkey is bound to comes from ORIGIN, never from a request's headers."""

    def encrypt(self, text: str) -> str:
        return seeds.seal(text)

    def decrypt(self, encrypted_text: str) -> str:
        return seeds.unseal(encrypted_text)

    def get_totp_issuer(self) -> str:
        return f"{PRODUCT} {_host()}"

    def get_public_key_credential_rp_entity(self) -> dict[str, str]:
        return {"id": _host(), "name": PRODUCT}

    def generate_authenticator_name(self, user: User, type: Authenticator.Type) -> str:  # noqa: A002 -- allauth's
        count = Authenticator.objects.filter(user=user, type=type).count()
        return _("Passkey %(number)s") % {"number": count + 1} if count else _("Passkey")


def _host() -> str:
    return str(urlsplit(settings.ORIGIN).hostname)
