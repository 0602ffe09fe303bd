"""Rotation: a new secret or key beside the old one, and ending that before its time (R7).

The same pages in the portal and in the console; the addresses say through which door (`urls`).
"""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from apitokens import rotation, services
from apitokens.pages.places import PagePrincipal, PageRequest
from apitokens.pages.proofs import proofs_of
from apitokens.pages.rotation_forms import CompletionForm, RotateForm
from apitokens.pages.rows import TokenRow
from apitokens.pages.tokens import already, changed_here, show_form_to, show_secret
from apitokens.pages.words import at_moment
from audit.services import Refusal
from tenants.policy import PermissionMissing

CONFLICT, UNPROCESSABLE = 409, 422


@sensitive_post_parameters("public_key")
@require_http_methods(["GET", "HEAD", "POST"])
def token_rotate(request: PageRequest, principal: PagePrincipal, token_id: str) -> HttpResponse:
    found = changed_here(request, principal, token_id)
    show_form_to(request, principal, found, "create")
    row = TokenRow(found, principal, timezone.now(), request.place)
    form = RotateForm(request.POST if request.method == "POST" else None, row=row)
    if form.is_valid():
        nonce = form.cleaned_data["nonce"]
        try:
            issued = rotation.rotate(by=principal, token=found, at=row.at, nonce=nonce, **form.asked())
        except services.AlreadyIssued as refusal:
            return already(request, principal, refusal)
        except PermissionMissing:
            raise
        except Refusal as refusal:
            form.add_refusal(refusal)
        else:
            return _rotated(request, principal, issued)
    context = {"token": row, "form": form, "proofs": proofs_of(found, row.at)}
    return render(request, "portal/tokens/rotate.html", context, status=UNPROCESSABLE if form.errors else 200)


def _rotated(request: PageRequest, principal: PagePrincipal, issued: services.Issued) -> HttpResponse:
    proofs = proofs_of(issued.token, timezone.now())
    what_of_the_old = (
        _("Both work until %(at)s.") % {"at": at_moment(proofs.rotation.deadline)}
        if proofs.rotation
        else _("The old one does not work any more.")
    )
    if issued.plaintext is not None:
        heading = _("Here is your new secret")
        return show_secret(request, principal, issued.token, issued.plaintext, heading=heading, note=what_of_the_old)
    messages.success(request, " ".join([_("The new public key is registered."), what_of_the_old]))
    return redirect(request.place.url("token", issued.token.token_id))


@require_http_methods(["GET", "HEAD", "POST"])
def token_rotation_complete(request: PageRequest, principal: PagePrincipal, token_id: str) -> HttpResponse:
    """The old version stops now. That it is in use is said first, and has to be confirmed."""
    found = changed_here(request, principal, token_id)
    show_form_to(request, principal, found, "delete")
    at, status = timezone.now(), 200
    form = CompletionForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            rotation.complete(by=principal, token=found, at=at, **form.cleaned_data)
        except rotation.StillUsed:
            form.add_error("even_if_used", _("Say so here, or give the new one first to whatever uses the old one."))
            status = CONFLICT
        else:
            messages.success(request, _("The rotation is complete: the old one does not work any more."))
            return redirect(request.place.url("token", token_id))
    row, proofs = TokenRow(found, principal, at, request.place), proofs_of(found, at)
    if proofs.rotation is None:
        return _nothing_under_way(request, row)
    is_in_use = rotation.is_still_used(proofs.rotation.old, at)
    context = {"token": row, "form": form, "proofs": proofs, "is_in_use": is_in_use}
    return render(request, "portal/tokens/rotation_complete.html", context, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
def token_rotation_cancel(request: PageRequest, principal: PagePrincipal, token_id: str) -> HttpResponse:
    """The new version stops now and the old one goes on."""
    found = changed_here(request, principal, token_id)
    show_form_to(request, principal, found, "create")
    at = timezone.now()
    if request.method == "POST":
        rotation.cancel(by=principal, token=found, at=at)
        messages.success(request, _("The rotation is cancelled: the new one is void and the old one goes on."))
        return redirect(request.place.url("token", token_id))
    row, proofs = TokenRow(found, principal, at, request.place), proofs_of(found, at)
    if proofs.rotation is None:
        return _nothing_under_way(request, row)
    return render(request, "portal/tokens/rotation_cancel.html", {"token": row, "proofs": proofs})


def _nothing_under_way(request: PageRequest, row: TokenRow) -> HttpResponse:
    """Somebody else has ended it, or the deadline has."""
    messages.info(request, _("No rotation of this token is under way."))
    return redirect(row.url)
