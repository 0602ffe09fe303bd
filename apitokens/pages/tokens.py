"""What is done with tokens on pages: of a tenant in the portal, of an environment in the console.

The addresses say through which door each is reached (`urls`); here it is open already.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from apitokens import access, explaining, services
from apitokens.finding import among, token_ids_in
from apitokens.models import ApiToken, Kind, Owner
from apitokens.orders import Order, name_key
from apitokens.pages.connect import env_file, key_snippets, save_commands, snippets
from apitokens.pages.forms import DeletionForm, TakeOverForm, TokenEditForm, TokenForm
from apitokens.pages.paging import page_of
from apitokens.pages.places import PagePrincipal, PageRequest
from apitokens.pages.preview import preview_of
from apitokens.pages.proofs import proofs_of
from apitokens.pages.records import tokens_csv_url
from apitokens.pages.rows import TokenRow, event_rows
from apitokens.pages.searching import TokenSearch
from apitokens.pages.usage import use_of
from apitokens.pages.words import at_moment, in_words
from apitokens.paging import Sort, TokenPages
from apitokens.policy import Layer
from apitokens.querysets import SHOWN, ApiTokenQuerySet
from audit.models import AuditEvent
from audit.services import Refusal
from audit.words import grouped, listed
from tenants.policy import PermissionMissing

UNPROCESSABLE = 422
# Of what a token made, how many its page names.
CHILDREN = 20
# Beyond this nobody reads a number, and counting would take longer than the page.
COUNTED = 1_000


@sensitive_post_parameters("q")
@require_http_methods(["GET", "HEAD", "POST"])
def tokens(request: PageRequest, principal: PagePrincipal) -> HttpResponse:
    """Both kinds in one list: the tenant's and the person's own, or the environment's own.

    What is looked for is sent, since it may be a secret; whatever else it is, it then stands in the address (R1).
    """
    visible = access.visible_tokens(principal)
    if principal.tenant is None:
        visible = visible.filter(owner=Owner.ENVIRONMENT, tenant=None)
    sent = request.POST if request.method == "POST" else request.GET
    search = TokenSearch(sent or None, principal=principal, visible=visible)
    if request.method != "POST":
        return _listed(request, principal, search, visible.none() if search.has_secret else visible)
    if search.has_secret:
        found = visible.filter(token_id__in=token_ids_in(sent.get("q", ""))).order_by("pk").first()
        if found is not None:
            return redirect(request.place.url("token", found.token_id))
        return _listed(request, principal, search, visible.none(), is_unknown=True)
    if search.errors:
        return _listed(request, principal, search, visible)
    return redirect(request.place.url("tokens") + search.query())


def _listed(
    request: PageRequest,
    principal: PagePrincipal,
    search: TokenSearch,
    visible: ApiTokenQuerySet,
    *,
    is_unknown: bool = False,
) -> HttpResponse:
    """`is_unknown`: a secret was sent that is none of a token which this person may see."""
    at, chosen = timezone.now(), search.chosen()
    pages = TokenPages(search.sorted_by, read=SHOWN[access.sees_flags(principal)])
    found = among(visible, chosen, environment=principal.environment, at=at)
    rows = token_rows(page_of(pages, found, request), request, principal, at)
    context = {
        "tokens": rows,
        "count": _counted(found) if rows else "",
        "can_create": _may_create(principal),
        "create_url": request.place.url("token-new"),
        "search": search,
        "is_filtered": not chosen.is_empty or search.has_secret or bool(search.errors),
        "is_unknown": is_unknown,
        "heads": _heads(request, search),
        "acts": acts_on(request, rows, query=search.query()),
        "csv_url": tokens_csv_url(request, chosen if principal.tenant else replace(chosen, owner=Owner.ENVIRONMENT)),
        "next_url": pages.get_next_link(),
        "previous_url": pages.get_previous_link(),
    }
    status = UNPROCESSABLE if search.errors and request.method == "POST" else 200
    return render(request, "portal/tokens/list.html", context, status=status)


@dataclass(frozen=True, kw_only=True)
class Acts:
    """What can be done to tokens of a list from within it; `query` narrowed the list that is called `place`."""

    url: str
    place: str
    query: str
    has_boxes: bool


def acts_on(request: PageRequest, rows: Sequence[TokenRow], *, place: str = "tokens", query: str = "") -> Acts | None:
    """None where nothing can be done to any of them."""
    has_boxes = any(row.can_delete for row in rows)
    if not has_boxes and not any(row.can_enable for row in rows):
        return None
    return Acts(url=request.place.url("tokens-ticked"), place=place, query=query, has_boxes=has_boxes)


def _counted(found: ApiTokenQuerySet) -> str:
    """How many there are, as far as it is worth counting."""
    count = found.order_by()[: COUNTED + 1].count()
    if count > COUNTED:
        return _("More than %(count)s tokens") % {"count": grouped(COUNTED)}
    return ngettext("%(count)d token", "%(count)d tokens", count) % {"count": count}


@dataclass(frozen=True)
class Head:
    """The head of a column by which the list can be sorted; `direction` as `aria-sort` has it."""

    url: str
    direction: str


def _heads(request: PageRequest, search: TokenSearch) -> dict[str, Head]:
    """What is pressed a second time turns round."""
    heads = {}
    for first in (Sort.NAME, Sort.NEWEST, Sort.LAST_USED, Sort.EXPIRES_FIRST):
        column = first.removeprefix("-")
        is_current = search.sorted_by.removeprefix("-") == column
        turned = column if search.sorted_by.startswith("-") else f"-{column}"
        direction = ("descending" if search.sorted_by.startswith("-") else "ascending") if is_current else ""
        url = request.place.url("tokens") + search.query(sort=turned if is_current else first.value)
        heads[column] = Head(url=url, direction=direction)
    return heads


def with_all_shown(tokens: ApiTokenQuerySet, principal: PagePrincipal) -> ApiTokenQuerySet:
    """Each with what a row of a list shows to that person."""
    tokens = tokens.with_standing().with_last_four().select_related("creator")
    return tokens.with_suspicions() if access.sees_flags(principal) else tokens


def token_rows(
    tokens: Iterable[ApiToken], request: PageRequest, principal: PagePrincipal, at: datetime
) -> list[TokenRow]:
    return [TokenRow(token, principal, at, request.place) for token in tokens]


@sensitive_post_parameters("public_key")
@require_http_methods(["GET", "HEAD", "POST"])
def token_new(request: PageRequest, principal: PagePrincipal) -> HttpResponse:
    if not _may_create(principal):
        access.require(principal, "apitokens:create" if principal.tenant else "environment-tokens:create")
    form = TokenForm(request.POST if request.method == "POST" else None, principal=principal)
    if request.method == "POST" and request.POST.get("step") in {"preview", "review"}:
        return _previewed(request, principal, form)
    taken = None
    if form.is_valid():
        order = form.order()
        try:
            issued = services.issue(
                by=principal,
                tenant=principal.tenant,
                order=order,
                at=timezone.now(),
                nonce=form.cleaned_data["nonce"],
            )
        except services.AlreadyIssued as refusal:
            return already(request, principal, refusal)
        except services.NameTaken as refusal:
            form.add_refusal(refusal)
            taken = _named(request, principal, order)
        except Refusal as refusal:
            form.add_refusal(refusal)
        else:
            if issued.plaintext is not None:
                heading = _("Here is your secret")
                return show_secret(request, principal, issued.token, issued.plaintext, heading=heading)
            messages.success(request, _("The token was made. It proves itself by the key that you hold."))
            return redirect(request.place.url("token", issued.token.token_id))
    return _form(request, principal, form, taken=taken)


def _previewed(request: PageRequest, principal: PagePrincipal, form: TokenForm) -> HttpResponse:
    """What it would be allowed to do: beside the form, or alone for a page that shows it beside what is chosen."""
    if request.POST["step"] == "review":
        return _form(request, principal, form)
    context = {"preview": preview_of(form, principal, at=timezone.now())}
    return render(request, "portal/tokens/_preview.html", context)


def _form(
    request: PageRequest, principal: PagePrincipal, form: TokenForm, *, taken: TokenRow | None = None
) -> HttpResponse:
    context = {
        "form": form,
        "taken": taken,
        "create_url": request.place.url("token-new"),
        "preview": preview_of(form, principal, at=timezone.now()) if form.is_bound else None,
    }
    return render(request, "portal/tokens/new.html", context, status=UNPROCESSABLE if form.errors else 200)


@require_safe
def token(request: PageRequest, principal: PagePrincipal, token_id: str) -> HttpResponse:
    found = access.open_token(principal, token_id)
    row = TokenRow(found, principal, timezone.now(), request.place)
    answer = explaining.explain(found, at=row.at)
    events = AuditEvent.objects.filter(target_id=found.id, environment_id=found.environment_id).order_by("-at", "-id")
    context = {
        "token": row,
        "permissions": answer.in_layers(Layer.GRANTED, Layer.TOKEN_NOT_USABLE),
        "unusable": answer.unusable,
        "withheld": answer.in_layers(Layer.ROLE_LOST_IT, Layer.ROLE_ABOVE_GRANTOR, Layer.OWNER_LACKS_IT),
        "ungranted": answer.in_layers(Layer.LEFT_OUT, Layer.NOT_TAKEN_OVER, Layer.NOT_FOR_THIS_OWNER),
        "offered": explaining.offered(answer) if row.can_edit else [],
        "asked": _asked(request, found, row.at),
        "children": token_rows(_children(principal, found)[:CHILDREN], request, principal, row.at),
        "more_children_url": _more_children_url(request, principal, found),
        "parent": _parent(request, principal, found),
        "facts": _facts(row),
        "proofs": (proofs := proofs_of(found, row.at)),
        "snippets": key_snippets(found, key) if (key := proofs.newest and proofs.newest.secret.public_key) else [],
        "use": use_of(principal, found, asked=request.GET.get("use", ""), url=row.url, at=row.at),
        "events": event_rows(events[:50]),
        "actions": row,
    }
    return render(request, "portal/tokens/detail.html", context)


def _asked(request: PageRequest, found: ApiToken, at: datetime) -> explaining.Explanation | None:
    """The answer to "May it …?", about a permission that exists or not."""
    key = request.GET.get("permission", "").strip()
    if not 1 <= len(key) <= explaining.KEY_MAX or "\0" in key:
        return None
    return explaining.explain(found, at=at, permission=key).permissions[0]


@require_http_methods(["GET", "HEAD", "POST"])
def token_take_over(request: PageRequest, principal: PagePrincipal, token_id: str) -> HttpResponse:
    """What its roles have got since it was granted, on a page that names it: giving it is granting (R3)."""
    found = changed_here(request, principal, token_id)
    show_form_to(request, principal, found, "create")
    row = TokenRow(found, principal, timezone.now(), request.place)
    offered = explaining.offered(explaining.explain(found, at=row.at))
    form = TakeOverForm(request.POST if request.method == "POST" else None, offered=offered)
    if form.is_valid():
        chosen = form.cleaned_data["permissions"]
        try:
            services.take_over(by=principal, token=found, permissions=chosen, at=timezone.now())
        except PermissionMissing:
            raise
        except Refusal as refusal:
            form.add_refusal(refusal)
        else:
            messages.success(request, _("The token has what you chose from now on."))
            return redirect(row.url)
    context = {"token": row, "form": form, "offered": offered}
    return render(request, "portal/tokens/take_over.html", context, status=UNPROCESSABLE if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
def token_edit(request: PageRequest, principal: PagePrincipal, token_id: str) -> HttpResponse:
    found = changed_here(request, principal, token_id)
    show_form_to(request, principal, found, "create")
    form = TokenEditForm(request.POST if request.method == "POST" else None, token=found)
    if form.is_valid():
        try:
            services.edit(by=principal, token=found, at=timezone.now(), **form.changes())
        except PermissionMissing:
            raise
        except Refusal as refusal:
            form.add_refusal(refusal)
        else:
            messages.success(request, _("The token was changed."))
            return redirect(request.place.url("token", token_id))
    context = {"token": TokenRow(found, principal, timezone.now(), request.place), "form": form}
    return render(request, "portal/tokens/edit.html", context, status=UNPROCESSABLE if form.errors else 200)


@require_POST
def token_disable(request: PageRequest, principal: PagePrincipal, token_id: str) -> HttpResponse:
    services.disable(by=principal, token=access.open_token(principal, token_id), at=timezone.now())
    messages.success(request, _("The token is disabled and stops working now."))
    return redirect(request.place.url("token", token_id))


@require_POST
def token_enable(request: PageRequest, principal: PagePrincipal, token_id: str) -> HttpResponse:
    services.enable(by=principal, token=access.open_token(principal, token_id), at=timezone.now())
    messages.success(request, _("The token is enabled. JWTs it got before stay dead."))
    return redirect(request.place.url("token", token_id))


@require_POST
def token_end_jwts(request: PageRequest, principal: PagePrincipal, token_id: str) -> HttpResponse:
    services.end_jwts(by=principal, token=access.open_token(principal, token_id), at=timezone.now())
    messages.success(request, _("Every JWT it got until now is dead. It gets new ones as before."))
    return redirect(request.place.url("token", token_id))


@require_http_methods(["GET", "HEAD", "POST"])
def token_delete(request: PageRequest, principal: PagePrincipal, token_id: str) -> HttpResponse:
    """Asks on a page of its own, which names the token and says that there is no undo."""
    found = access.open_token(principal, token_id)
    row = TokenRow(found, principal, timezone.now(), request.place)
    form = DeletionForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        is_compromised = form.cleaned_data["compromised"]
        services.delete(by=principal, token=found, at=timezone.now(), as_compromised=is_compromised)
        messages.success(request, _("The token was deleted."))
        return redirect(row.list_url)
    show_form_to(request, principal, found, "delete")
    is_client = found.kind == Kind.CLIENT_CREDENTIALS
    made = found.children.count()
    context = {
        "token": row,
        "form": form if made else None,
        "children": made,
        "jwt_lifetime": in_words(found.token_type.jwt_lifetime) if is_client else "",
    }
    return render(request, "portal/tokens/delete.html", context)


def changed_here(request: PageRequest, principal: PagePrincipal, token_id: str) -> ApiToken:
    """A token that is changed in this place; raises Http404 in the console for one of a tenant's."""
    found = access.open_token(principal, token_id)
    if not TokenRow(found, principal, timezone.now(), request.place).is_changed_here:
        raise Http404
    return found


def _children(principal: PagePrincipal, found: ApiToken) -> ApiTokenQuerySet:
    made = access.visible_tokens(principal).filter(parent=found)
    return with_all_shown(made, principal).order_by("-created_at", "-id")


def _more_children_url(request: PageRequest, principal: PagePrincipal, found: ApiToken) -> str:
    """The whole list, in the console, where tokens that make tokens are at home."""
    if principal.tenant is not None or not found.children.exists():
        return ""
    return f"{request.place.url('all-tokens')}?parent={found.token_id}"


def _parent(request: PageRequest, principal: PagePrincipal, found: ApiToken) -> TokenRow | None:
    """The token that made it, if this person may see it."""
    if found.parent_id is None:
        return None
    parent = with_all_shown(access.visible_tokens(principal).filter(pk=found.parent_id), principal).first()
    return TokenRow(parent, principal, timezone.now(), request.place) if parent else None


def show_form_to(request: PageRequest, principal: PagePrincipal, found: ApiToken, act: str) -> None:
    """A form is shown to who may send it; whether what is sent may be done is the service's to say, and to record."""
    if request.method != "POST":
        access.require(principal, services.needs(principal, found, act))


def _may_create(principal: PagePrincipal) -> bool:
    if principal.tenant is None:
        return principal.holds("environment-tokens:create")
    return principal.holds("apitokens:create") or principal.holds("personal-apitokens:create")


def _named(request: PageRequest, principal: PagePrincipal, order: Order) -> TokenRow | None:
    """The token that has the name: perhaps the one that this person has just made, with a form sent twice."""
    named = access.visible_tokens(principal).filter(owner=order.owner, name_key=name_key(order.name.strip()))
    found = named.with_standing().with_last_four().first()
    return TokenRow(found, principal, timezone.now(), request.place) if found else None


def show_secret(
    request: PageRequest, principal: PagePrincipal, issued: ApiToken, plaintext: str, *, heading: str, note: str = ""
) -> HttpResponse:
    """The exception to redirect-after-post: the secret is in the answer to this POST and nowhere else (R1)."""
    found = access.with_everything(issued)
    if found.kind == Kind.CLIENT_CREDENTIALS:
        shown = [("client_id", _("Client id"), found.client_id), ("client_secret", _("Secret"), plaintext)]
    else:
        shown = [("access_token", _("Access token"), plaintext)]
    shown = [("token_id", _("Token id"), found.token_id), *shown]
    context = {
        "heading": heading,
        "note": note,
        "token": TokenRow(found, principal, timezone.now(), request.place),
        "fields": [
            {"name": name, "label": label, "value": value, "secret": value == plaintext} for name, label, value in shown
        ],
        "snippets": snippets(found, plaintext),
        "save_commands": save_commands(found, plaintext),
        "env_file": env_file(found, plaintext),
    }
    return render(request, "portal/tokens/secret.html", context)


def already(request: PageRequest, principal: PagePrincipal, refusal: services.AlreadyIssued) -> HttpResponse:
    row = None
    if refusal.token is not None:
        row = TokenRow(access.with_everything(refusal.token), principal, timezone.now(), request.place)
    context = {"token": row, "rotate_url": row.rotate_url if row and row.can_rotate else ""}
    return render(request, "portal/tokens/already.html", context, status=409)


def _facts(row: TokenRow) -> list[tuple[str, str]]:
    found = row.token
    facts = [
        (_("Kind"), row.kind_label),
        (_("Owner"), row.owner_label),
        (_("Roles"), row.roles_label),
        (_("Token id"), found.token_id),
    ]
    if found.kind == Kind.CLIENT_CREDENTIALS:
        facts.append((_("Client id"), found.client_id))
        facts.append((_("Its JWTs live for"), in_words(found.token_type.jwt_lifetime)))
    return [
        *facts,
        (_("Made by"), row.created_by),
        (_("Made"), at_moment(found.created_at)),
        (_("Last used"), row.last_used_label),
        *([(_("Starts"), at_moment(found.not_before))] if found.not_before else []),
        (_("Expires"), at_moment(found.expires_at) if found.expires_at else _("never")),
        *([(_("Will be deleted"), at_moment(row.erased_at))] if row.erased_at else []),
        (_("Usable from"), listed(found.ip_allowlist) or _("anywhere")),
        *([(_("Only for the APIs"), listed(found.audiences))] if found.audiences else []),
    ]
