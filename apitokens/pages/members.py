"""Members of a tenant and invitations to it. The addresses say through which door each page is reached (`urls`)."""

from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from apitokens import access
from apitokens.access import open_member, visible_tokens
from apitokens.governance import invitations, members
from apitokens.models import ApiToken
from apitokens.pages.member_forms import AnsweredForm, InviteForm, MemberRolesForm, RemoveForm
from apitokens.pages.member_rows import InvitationRow, MemberRow
from apitokens.pages.paging import page_of
from apitokens.pages.places import PageRequest
from apitokens.pages.rows import TokenRow
from apitokens.paging import MemberPages
from apitokens.principals import MemberPrincipal
from audit.services import Refusal

UNPROCESSABLE = 422
INVITATIONS_SHOWN = 5


@require_safe
def member_list(request: PageRequest, principal: MemberPrincipal) -> HttpResponse:
    asked = request.GET.get("q", "").strip()[:100]
    pages = MemberPages()
    found = access.members_of(principal)
    page = page_of(pages, found.filter(access.named_like(asked)) if asked else found, request)
    offers = list(access.open_invitations(principal).order_by("-created_at", "-id")[: INVITATIONS_SHOWN + 1])
    context = {
        "members": [MemberRow(member, principal, request.place) for member in page],
        "asked": asked,
        "may_invite": principal.holds("members:create"),
        "may_revoke": principal.holds("members:delete"),
        "invitations": _rows(request, offers[:INVITATIONS_SHOWN]),
        "more_invitations_url": request.place.url("invitations") if len(offers) > INVITATIONS_SHOWN else None,
        "list_url": request.place.url("members"),
        "invite_url": request.place.url("member-invite"),
        "next_url": pages.get_next_link(),
        "previous_url": pages.get_previous_link(),
    }
    return render(request, "portal/members/list.html", context)


@require_safe
def invitation_list(request: PageRequest, principal: MemberPrincipal) -> HttpResponse:
    pages = MemberPages()
    context = {
        "invitations": _rows(request, page_of(pages, access.open_invitations(principal), request)),
        "may_revoke": principal.holds("members:delete"),
        "list_url": request.place.url("members"),
        "next_url": pages.get_next_link(),
        "previous_url": pages.get_previous_link(),
    }
    return render(request, "portal/members/invitations.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def invite(request: PageRequest, principal: MemberPrincipal) -> HttpResponse:
    """The link, where no mail is configured, is in the answer to this POST and nowhere else (R1)."""
    _show_form_to(request, principal, "members:create")
    form = InviteForm(request.POST if request.method == "POST" else None, principal=principal)
    list_url = request.place.url("members")
    if form.is_valid():
        try:
            invited = invitations.invite(by=principal, tenant=principal.tenant, at=timezone.now(), **form.cleaned_data)
        except Refusal as refusal:
            form.add_refusal(refusal)
        else:
            if invited.link is not None:
                return render(request, "portal/members/invited.html", {"invited": invited, "list_url": list_url})
            messages.success(request, _("The invitation is on its way to %(email)s.") % form.cleaned_data)
            return redirect(list_url)
    context = {"form": form, "list_url": list_url, "place_name": principal.tenant.name}
    return render(request, "portal/members/invite.html", context, status=UNPROCESSABLE if form.errors else 200)


@require_POST
def invitation_revoke(request: PageRequest, principal: MemberPrincipal, invitation_id: UUID) -> HttpResponse:
    found = access.open_invitation(principal, invitation_id)
    invitations.revoke(by=principal, invitation=found, at=timezone.now())
    messages.success(request, _("The invitation is revoked: its link opens nothing any more."))
    return redirect(request.place.url("members"))


@require_http_methods(["GET", "HEAD", "POST"])
def member(request: PageRequest, principal: MemberPrincipal, member_id: UUID) -> HttpResponse:
    """One member: their roles, to be changed, and the tokens that they have, made or know."""
    found = open_member(principal, member_id)
    form = MemberRolesForm(request.POST if request.method == "POST" else None, principal=principal, member=found)
    if form.is_valid():
        try:
            members.change_roles(
                by=principal,
                membership=found,
                roles=form.cleaned_data["roles"],
                at=timezone.now(),
                expected=form.cleaned_data["version"],
            )
        except Refusal as refusal:
            form.add_refusal(refusal)
        else:
            messages.success(request, _("The roles were changed."))
            return redirect(request.place.url("member", member_id))
    row = MemberRow(found, principal, request.place)
    inventory = members.inventory(found, among=visible_tokens(principal))
    context = {
        "member": row,
        "form": form,
        "list_url": request.place.url("members"),
        "personal": _token_rows(request, principal, inventory.personal),
        "known": _known(request, principal, inventory),
        "is_cut": inventory.is_cut,
        "may_change": principal.holds("members:create") and not form.above,
        "may_end": row.is_you or (principal.holds("members:delete") and form.may_be_stopped),
    }
    return render(request, "portal/members/detail.html", context, status=UNPROCESSABLE if form.errors else 200)


@require_POST
def member_suspend(request: PageRequest, principal: MemberPrincipal, member_id: UUID) -> HttpResponse:
    members.suspend(by=principal, membership=open_member(principal, member_id), at=timezone.now())
    messages.success(request, _("They are suspended: they can't sign in here, and their personal tokens stop now."))
    return redirect(request.place.url("member", member_id))


@require_POST
def member_reinstate(request: PageRequest, principal: MemberPrincipal, member_id: UUID) -> HttpResponse:
    members.reinstate(by=principal, membership=open_member(principal, member_id), at=timezone.now())
    messages.success(request, _("They are back. JWTs of their tokens from before stay dead."))
    return redirect(request.place.url("member", member_id))


@require_http_methods(["GET", "HEAD", "POST"])
def member_remove(request: PageRequest, principal: MemberPrincipal, member_id: UUID) -> HttpResponse:
    """Asks on a page of its own, which names the person and every token that they leave behind or know."""
    _show_form_to(request, principal, "members:delete")
    found = open_member(principal, member_id)
    inventory = members.inventory(found, among=visible_tokens(principal))
    known = _known(request, principal, inventory) if principal.holds("apitokens:delete") else []
    notes = [(row.token, f"{note} · {row.state_label}") for row, note in known]
    form = RemoveForm(request.POST if request.method == "POST" else None, tokens=notes)
    if form.is_valid():
        try:
            members.remove(by=principal, membership=found, at=timezone.now(), delete_tokens=form.chosen())
        except Refusal as refusal:
            form.add_refusal(refusal)
        else:
            messages.success(request, _("%(name)s is no longer a member.") % {"name": found.user})
            return redirect(request.place.url("members"))
    context = {
        "member": MemberRow(found, principal, request.place),
        "form": form,
        "personal": _token_rows(request, principal, inventory.personal),
        "is_cut": inventory.is_cut,
        "is_last": members.is_last_keeper(found),
    }
    return render(request, "portal/members/remove.html", context, status=UNPROCESSABLE if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
def leave(request: PageRequest, principal: MemberPrincipal) -> HttpResponse:
    form = AnsweredForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            members.leave(by=principal, at=timezone.now())
        except Refusal as refusal:
            form.add_refusal(refusal)
        else:
            messages.success(request, _("You have left %(tenant)s.") % {"tenant": principal.tenant.name})
            return redirect("portal:home")
    inventory = members.inventory(principal.membership)
    context = {
        "form": form,
        "tenant": principal.tenant,
        "is_last": members.is_last_keeper(principal.membership),
        "personal": _token_rows(request, principal, inventory.personal),
    }
    return render(request, "portal/members/leave.html", context, status=UNPROCESSABLE if form.errors else 200)


def _show_form_to(request: PageRequest, principal: MemberPrincipal, permission: str) -> None:
    """A form is shown to who may send it; what is sent is the service's to refuse, and to record."""
    if request.method != "POST":
        access.require(principal, permission)


def _rows(request: PageRequest, found: list) -> list[InvitationRow]:
    at = timezone.now()
    return [InvitationRow(invitation, request.place, at) for invitation in found]


def _token_rows(request: PageRequest, principal: MemberPrincipal, tokens: list[ApiToken]) -> list[TokenRow]:
    at = timezone.now()
    return [TokenRow(token, principal, at, request.place) for token in tokens]


def _known(
    request: PageRequest, principal: MemberPrincipal, inventory: members.Inventory
) -> list[tuple[TokenRow, str]]:
    """The tenant's tokens that they made or whose secret they have seen, each with which of the two."""
    made = {token.pk for token in inventory.made}
    shown = {token.pk for token in inventory.shown}
    notes = {
        (True, True): _("made it and was shown its secret"),
        (True, False): _("made it"),
        (False, True): _("was shown its secret"),
    }
    rows = _token_rows(request, principal, inventory.of_tenant)
    return [(row, notes[row.token.pk in made, row.token.pk in shown]) for row in rows]
