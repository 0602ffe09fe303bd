"""The language in which somebody reads our pages and mails."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.db import transaction
from django.http import HttpRequest
from django.utils import translation

from accounts.models import User
from accounts.security import record_of
from accounts.visits import Visit

# Where a session keeps the language that the application around an embedded page speaks.
SESSION_KEY = "locale"


def of_reader(request: HttpRequest) -> str:
    """What the application around an embedded page says, the person's own choice, the cookie's, or the browser's."""
    user = request.user
    return (
        supported(request.session.get(SESSION_KEY))
        or supported(user.language if user.is_authenticated else "")
        or translation.get_language_from_request(request)
    )


def supported(code: object) -> str:
    """The one of our languages that comes nearest, `de` for `de-AT`; empty if none does."""
    try:
        return translation.get_supported_language_variant(code) if isinstance(code, str) else ""
    except LookupError:
        return ""


def offered(request: HttpRequest) -> list[tuple[str, str]]:
    """Codes and names to choose from; an embedded page speaks as the application around it does."""
    return [] if supported(request.session.get(SESSION_KEY)) else list(settings.LANGUAGES)


def choose(user: User, request: Visit, code: str) -> None:
    """What a person chose goes with them into every browser."""
    if user.language == code:
        return
    with transaction.atomic():
        User.objects.filter(pk=user.pk).update(language=code)
        record_of(user, request, "user.edited", changed=["language"])


@contextmanager
def for_mail_to(email: str) -> Iterator[None]:
    """In the language that the person chose; a mail to anybody else is in that of whoever sends it."""
    reader = User.objects.filter(email__iexact=email, voucher_id__isnull=True).first()
    chosen = supported(reader.language) if reader else ""
    with translation.override(chosen or translation.get_language()):
        yield
