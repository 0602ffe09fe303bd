"""The page behind an invitation's link. Whoever opens it is signed in, or has an account, or neither."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from accounts.confirming import sign_in_invited
from apitokens import access
from apitokens.access import PortalRequest
from apitokens.governance import invitations
from apitokens.pages.member_forms import JoinForm
from apitokens.pages.member_rows import ROLE_NAMES, environments_label
from apitokens.services import Gone
from audit.services import Refusal
from audit.words import listed
from tenants.models import Invitation, VendorMembership

UNPROCESSABLE = 422


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def invitation(request: PortalRequest, key: str) -> HttpResponse:
    """Unknown, revoked and replaced links are 404, and one like the other."""
    try:
        return _opened(request, key)
    except Gone:
        return render(request, "portal/invitations/gone.html", status=404)


def _opened(request: PortalRequest, key: str) -> HttpResponse:
    found = invitations.find(key)
    invitations.check_open(found, at=timezone.now())
    if found.tenant is not None:
        request.branded = found.tenant.environment
    if request.user.is_authenticated:
        return _signed_in(request, found, key)
    if invitations.account_for(found) is not None:
        return _page(request, found, sign_in_query=urlencode({"next": request.path}))
    return _newcomer(request, found, key)


def _signed_in(request: PortalRequest, found: Invitation, key: str) -> HttpResponse:
    if not invitations.is_for(found, request.user) and request.method != "POST":
        return render(request, "portal/invitations/other.html", status=403)
    if request.method == "POST":
        actor = access.user_actor(request.user, request)
        invitations.accept(key=key, user=request.user, at=timezone.now(), actor=actor)
        return _welcome(request, found)
    return _page(request, found)


def _newcomer(request: PortalRequest, found: Invitation, key: str) -> HttpResponse:
    """No account has the e-mail yet: a name and a password make one, and it is signed in."""
    form = JoinForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            joined = invitations.join(
                key=key,
                at=timezone.now(),
                ip=access.client_ip(request),
                request_id=request.request_id,
                **form.cleaned_data,
            )
        except Refusal as refusal:
            # What is wrong with the invitation no correction of the form can mend.
            if not refusal.field:
                raise
            form.add_refusal(refusal)
        else:
            sign_in_invited(request, joined.user)
            return _welcome(request, found)
    return _page(request, found, form=form, status=UNPROCESSABLE if form.errors else 200)


def _welcome(request: PortalRequest, found: Invitation) -> HttpResponse:
    place = found.tenant or found.vendor
    messages.success(request, _("Welcome to %(place)s.") % {"place": place.name})
    return redirect("portal:home")


def _page(request: PortalRequest, found: Invitation, *, status: int = 200, **more: object) -> HttpResponse:
    context = {"email": found.email, "sender": _sender(found), **_offer(found), **more}
    return render(request, "portal/invitations/accept.html", context, status=status)


def _offer(found: Invitation) -> dict[str, object]:
    if found.tenant is not None:
        roles = listed(found.roles.order_by("-level", "key").values_list("name", flat=True))
        return {"place": found.tenant.name, "offer": roles, "environment": found.tenant.environment}
    role = ROLE_NAMES[VendorMembership.Role(found.vendor_role)]
    return {"place": found.vendor.name, "offer": f"{role} · {environments_label(found)}"}


def _sender(found: Invitation) -> str:
    member = found.sender_membership or found.sender_vendor_membership
    return str(member.user) if member else found.vendor.name
