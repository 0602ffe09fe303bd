"""The vendor's own people. Its owners decide about them; everybody who opens the console sees who they are."""

from uuid import UUID

from django.contrib import messages
from django.db.models import Q
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from apitokens import access
from apitokens.access import open_person
from apitokens.governance import vendor_members
from apitokens.governance.environments import OwnersOnly
from apitokens.models import ApiToken, Owner, Secret
from apitokens.pages.member_rows import InvitationRow, PersonRow
from apitokens.pages.paging import page_of
from apitokens.pages.places import PageRequest, Place
from apitokens.pages.rows import TokenRow
from apitokens.paging import MemberPages
from apitokens.principals import ConsolePrincipal
from audit.services import Refusal
from console.confirming import UNPROCESSABLE, Question, ask
from console.doors import console_page
from console.people_forms import PersonForm, PersonInviteForm
from tenants.models import VendorMembership

FORM = ["GET", "HEAD", "POST"]
INVITATIONS_SHOWN = 5
TOKENS_SHOWN = 50
POINTS_OF_LEAVING = (
    gettext_lazy("No console opens for you any more, and your own tokens stop at once."),
    gettext_lazy("Your own tokens are deleted after seven days unless you come back before."),
    gettext_lazy("Tokens of environments go on working: somebody should rotate those whose secrets you know."),
)
POINTS_OF_REMOVING = (
    gettext_lazy("No console opens for them any more, and their own tokens stop at once."),
    gettext_lazy("Their own tokens are deleted after seven days unless they come back before."),
    gettext_lazy("Tokens of environments go on working: rotate those whose secrets they know."),
)


@require_safe
def people(request: PageRequest, principal: ConsolePrincipal) -> HttpResponse:
    asked = request.GET.get("q", "").strip()[:100]
    pages, found = MemberPages(), access.vendors_people(principal)
    page = page_of(pages, found.filter(access.named_like(asked)) if asked else found, request)
    offers = list(access.open_invitations(principal).order_by("-created_at", "-id")[: INVITATIONS_SHOWN + 1])
    context = {
        "people": [PersonRow(person, principal, request.place) for person in page],
        "asked": asked,
        "vendor": principal.environment.vendor,
        "may_decide": _is_owner(principal),
        "may_revoke": _is_owner(principal),
        "invitations": _rows(request, offers[:INVITATIONS_SHOWN]),
        "more_invitations_url": request.place.url("person-invitations") if len(offers) > INVITATIONS_SHOWN else None,
        "list_url": request.place.url("people"),
        "invite_url": request.place.url("person-invite"),
        "next_url": pages.get_next_link(),
        "previous_url": pages.get_previous_link(),
    }
    return render(request, "console/people/list.html", context)


@require_safe
def invitation_list(request: PageRequest, principal: ConsolePrincipal) -> HttpResponse:
    pages = MemberPages()
    context = {
        "invitations": _rows(request, page_of(pages, access.open_invitations(principal), request)),
        "may_revoke": _is_owner(principal),
        "list_url": request.place.url("people"),
        "next_url": pages.get_next_link(),
        "previous_url": pages.get_previous_link(),
    }
    return render(request, "console/people/invitations.html", context)


@require_http_methods(FORM)
def person_invite(request: PageRequest, principal: ConsolePrincipal) -> HttpResponse:
    """The exception to redirect-after-post: without mail the one-time link is in this answer and nowhere else (R1)."""
    _show_form_to_owner(request, principal, "environments:create")
    form = PersonInviteForm(request.POST if request.method == "POST" else None, principal=principal)
    list_url = request.place.url("people")
    if form.is_valid():
        try:
            invited = vendor_members.invite(
                by=principal,
                email=form.cleaned_data["email"],
                role=form.cleaned_data["role"],
                environments=form.chosen(),
                at=timezone.now(),
            )
        except Refusal as refusal:
            form.add_refusal(refusal)
        else:
            if invited.link is not None:
                return render(request, "portal/members/invited.html", {"invited": invited, "list_url": list_url})
            messages.success(request, _("The invitation is on its way to %(email)s.") % form.cleaned_data)
            return redirect(list_url)
    context = {"form": form, "list_url": list_url, "vendor": principal.environment.vendor}
    return render(request, "console/people/invite.html", context, status=UNPROCESSABLE if form.errors else 200)


@require_POST
def invitation_revoke(request: PageRequest, principal: ConsolePrincipal, invitation_id: UUID) -> HttpResponse:
    found = access.open_invitation(principal, invitation_id)
    vendor_members.revoke(by=principal, invitation=found, at=timezone.now())
    messages.success(request, _("The invitation is revoked: its link opens nothing any more."))
    return redirect(request.place.url("people"))


@require_http_methods(FORM)
def person(request: PageRequest, principal: ConsolePrincipal, member_id: UUID) -> HttpResponse:
    found = open_person(principal, member_id)
    form = PersonForm(request.POST if request.method == "POST" else None, principal=principal, person=found)
    if form.is_valid():
        try:
            vendor_members.change(
                by=principal,
                member=found,
                role=form.cleaned_data["role"],
                environments=form.chosen(),
                at=timezone.now(),
                expected=form.cleaned_data["version"],
            )
        except Refusal as refusal:
            form.add_refusal(refusal)
        else:
            messages.success(request, _("What they may do was changed."))
            return redirect(request.place.url("people"))
    context = {
        "person": PersonRow(found, principal, request.place),
        "form": form,
        "list_url": request.place.url("people"),
        "may_decide": _is_owner(principal),
    }
    return render(request, "console/people/detail.html", context, status=UNPROCESSABLE if form.errors else 200)


@require_POST
def person_suspend(request: PageRequest, principal: ConsolePrincipal, member_id: UUID) -> HttpResponse:
    vendor_members.suspend(by=principal, member=open_person(principal, member_id), at=timezone.now())
    messages.success(request, _("They are suspended: no console opens for them, and their own tokens stop now."))
    return redirect(request.place.url("person", member_id))


@require_POST
def person_reinstate(request: PageRequest, principal: ConsolePrincipal, member_id: UUID) -> HttpResponse:
    vendor_members.reinstate(by=principal, member=open_person(principal, member_id), at=timezone.now())
    messages.success(request, _("They are back. JWTs of their tokens from before stay dead."))
    return redirect(request.place.url("person", member_id))


@require_http_methods(FORM)
def person_remove(request: PageRequest, principal: ConsolePrincipal, member_id: UUID) -> HttpResponse:
    """Somebody else's place is an owner's to end; one's own, everybody's."""
    found = open_person(principal, member_id)
    row = PersonRow(found, principal, request.place)
    if not row.is_you:
        _show_form_to_owner(request, principal, "environments:delete")
    tokens = _known_to(request, principal, found)
    question = Question(
        permission="environments:read",
        heading=_("Remove %(name)s?") % {"name": row.name}
        if not row.is_you
        else _("Leave %(vendor)s?") % {"vendor": found.vendor.name},
        points=POINTS_OF_LEAVING if row.is_you else POINTS_OF_REMOVING,
        impossible=_why_not(row.is_you, found),
        tokens_heading=_("Tokens that you made, or whose secret you know")
        if row.is_you
        else _("Tokens that they made, or whose secret they know"),
        tokens=tokens[:TOKENS_SHOWN],
        are_tokens_cut=len(tokens) > TOKENS_SHOWN,
        submit_label=_("Leave the vendor") if row.is_you else _("Remove this person"),
        back_url=row.url,
        back_label=row.name,
        done=_("You have left the vendor.") if row.is_you else _("They don't work for the vendor any more."),
        done_url="/" if row.is_you else request.place.url("people"),
    )
    return ask(request, principal, question, lambda _name: _end(principal, found, is_own=row.is_you))


def _why_not(is_own: bool, found: VendorMembership) -> str:
    if not vendor_members.is_last_owner(found):
        return ""
    if is_own:
        return _("You can't leave yet: nobody else is an owner of all environments. Make somebody else one first.")
    return _("They can't be removed yet: nobody else is an owner of all environments. Make somebody else one first.")


def _known_to(request: PageRequest, principal: ConsolePrincipal, found: VendorMembership) -> list[TokenRow]:
    """The environments' tokens that the person made or was shown, where the one who looks may see them; one too many
    if there are more than are shown."""
    shown = Secret.objects.filter(shown_to=found.user_id, slot__isnull=False).values("token")
    tokens = ApiToken.objects.filter(
        Q(creator=found.user_id) | Q(pk__in=shown),
        owner=Owner.ENVIRONMENT,
        environment__in=access.environments_of(request.user).filter(vendor=found.vendor_id),
    )
    newest = tokens.with_standing().with_last_four().select_related("environment").order_by("-created_at", "-id")
    at = timezone.now()
    return [
        TokenRow(token, principal, at, Place("console", token.environment.slug)) for token in newest[: TOKENS_SHOWN + 1]
    ]


def _end(principal: ConsolePrincipal, found: VendorMembership, *, is_own: bool) -> None:
    if is_own:
        vendor_members.leave(by=principal, at=timezone.now())
    else:
        vendor_members.remove(by=principal, member=found, at=timezone.now())


def _is_owner(principal: ConsolePrincipal) -> bool:
    return principal.vendor_membership.role == VendorMembership.Role.OWNER


def _show_form_to_owner(request: PageRequest, principal: ConsolePrincipal, permission: str) -> None:
    """A form is shown to who may send it; what is sent is the service's to refuse, and to record."""
    if request.method == "POST":
        return
    access.require(principal, permission)
    if not _is_owner(principal):
        raise OwnersOnly


def _rows(request: PageRequest, found: list) -> list[InvitationRow]:
    at = timezone.now()
    return [InvitationRow(invitation, request.place, at) for invitation in found]


_to_people = console_page("environments:read")

urlpatterns = [
    path("people/", _to_people(people), name="people"),
    path("people/invite/", _to_people(person_invite), name="person-invite"),
    path("people/invitations/", _to_people(invitation_list), name="person-invitations"),
    path(
        "people/invitations/<uuid:invitation_id>/revoke/",
        _to_people(invitation_revoke),
        name="person-invitation-revoke",
    ),
    path("people/<uuid:member_id>/", _to_people(person), name="person"),
    path("people/<uuid:member_id>/suspend/", _to_people(person_suspend), name="person-suspend"),
    path("people/<uuid:member_id>/reinstate/", _to_people(person_reinstate), name="person-reinstate"),
    path("people/<uuid:member_id>/remove/", _to_people(person_remove), name="person-remove"),
]
