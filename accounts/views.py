"""A person's own pages, and allauth's about how they sign in, with what happens there in the record."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from allauth.account import views as account
from allauth.mfa.base.views import AuthenticateView
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.views import GenerateRecoveryCodesView
from allauth.mfa.totp.views import ActivateTOTPView, DeactivateTOTPView
from allauth.mfa.utils import is_mfa_enabled
from allauth.mfa.webauthn.views import AddWebAuthnView, EditWebAuthnView, ReauthenticateWebAuthnView, RemoveWebAuthnView
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse_lazy
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods
from django.views.generic.edit import FormMixin

from accounts import open_sessions, security
from accounts.forms import ProfileForm
from accounts.models import User
from accounts.visits import Visit

Type = Authenticator.Type
View = Callable[..., HttpResponseBase]
UNPROCESSABLE = 422
EVENTS_SHOWN = 10


class SignedInVisit(Visit):
    """A request that has passed `personal`; for annotations."""

    user: User


def personal(view: View) -> View:
    """One's own page: signed in, and nothing of it kept by a cache on the way."""
    return never_cache(login_required(view))


def of_local_people(view: View) -> View:
    """For people who sign in here: an identity vouched for elsewhere gets nothing to sign in with (R12)."""

    @wraps(view)
    def open_door(request: HttpRequest, *args: Any, **named: Any) -> HttpResponseBase:
        if request.user.is_authenticated and request.user.voucher_id is not None:
            raise Http404
        return view(request, *args, **named)

    return never_cache(open_door)


@require_http_methods(["GET", "HEAD", "POST"])
def profile(request: SignedInVisit) -> HttpResponse:
    form = ProfileForm(request.POST if request.method == "POST" else None, instance=request.user)
    if form.is_valid():
        with transaction.atomic():
            form.save()
            if form.changed_data:
                security.record_of(request.user, request, "user.edited", changed=form.changed_data)
        messages.success(request, _("Your profile is saved."))
        return redirect("account")
    person = User.objects.get(pk=request.user.pk)
    context = {"form": form, "person": person, "events": security.events_of(person, EVENTS_SHOWN)}
    return render(request, "account/profile.html", context, status=UNPROCESSABLE if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
def sessions(request: SignedInVisit) -> HttpResponse:
    """The browsers in which one is signed in. Ending one needs no proof: stopping somebody else must be quick."""
    if request.method != "POST":
        found = open_sessions.of(request.user, request, at=timezone.now())
        return render(request, "usersessions/usersession_list.html", {"sessions": found})
    if asked := request.POST.get("session", ""):
        is_id = asked.isascii() and asked.isdecimal()
        ended = is_id and open_sessions.end(request.user, request, session_id=int(asked[:20]))
        told = _("That browser is signed out.") if ended else _("That browser was signed out already.")
    else:
        count = open_sessions.end_others(request.user, request)
        told = ngettext("%(count)s other browser is signed out.", "%(count)s other browsers are signed out.", count)
        told %= {"count": count}
    messages.success(request, told)
    return redirect("usersessions_list")


class SecondStep(AuthenticateView):
    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        user = self.stage.login.user
        return {**super().get_context_data(**kwargs), "has_passkey": is_mfa_enabled(user, [Type.WEBAUTHN])}


class Recorded(FormMixin):
    """What the form's success does to the person's authenticators is in the record, in the same transaction."""

    request: SignedInVisit

    def form_valid(self, form: Any) -> HttpResponse:
        with security.authenticators_recorded(self.request.user, self.request):
            return super().form_valid(form)


class ActivateTOTP(Recorded, ActivateTOTPView):
    pass


class DeactivateTOTP(Recorded, DeactivateTOTPView):
    pass


class AddPasskey(Recorded, AddWebAuthnView):
    pass


class RemovePasskey(Recorded, RemoveWebAuthnView):
    success_url = reverse_lazy("mfa_index")


class RenamePasskey(EditWebAuthnView):
    success_url = reverse_lazy("mfa_index")


class GenerateRecoveryCodes(Recorded, GenerateRecoveryCodesView):
    pass


class ReauthenticateByPasskey(ReauthenticateWebAuthnView):
    def form_invalid(self, form: Any) -> HttpResponse:
        """Here again: there may be another passkey to try, and where one was going is still known."""
        return self.render_to_response(self.get_context_data(form=form), status=UNPROCESSABLE)


@of_local_people
def password_change(request: HttpRequest) -> HttpResponseBase:
    """For people who have a password."""
    if request.user.is_authenticated and not request.user.has_usable_password():
        raise Http404
    return account.password_change(request)
