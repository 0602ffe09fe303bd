"""Several tokens at once: those that were ticked in a list are named first, then disabled or deleted one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_http_methods

from apitokens import access
from apitokens.credentials import TOKEN_ID
from apitokens.governance import bulk
from apitokens.models import ApiToken
from apitokens.pages.places import PagePrincipal, PageRequest
from apitokens.pages.rows import TokenRow
from apitokens.pages.tokens import token_rows, with_all_shown
from apitokens.paging import Pages

UNPROCESSABLE = 422
LONGEST_QUERY = 2_000


class Act(StrEnum):
    DISABLE = "disable"
    DELETE = "delete"


ACTS: dict[Act, Callable[..., list[bulk.Result]]] = {
    Act.DISABLE: bulk.disable_each,
    Act.DELETE: bulk.delete_each,
}


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One of them, and why nothing became of it, if so."""

    row: TokenRow
    because: str


class ConfirmationForm(forms.Form):
    """Whoever deletes what is in use says of how many they know it."""

    known = forms.CharField(
        label=gettext_lazy("To confirm, say how many of them are in use"),
        required=False,
        max_length=10,
        widget=forms.TextInput({"inputmode": "numeric", "autocomplete": "off"}),
    )

    def __init__(self, *args: Any, in_use: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.in_use = in_use
        self.fields["known"].help_text = _("Type %(count)d.") % {"count": in_use}

    def clean_known(self) -> str:
        known: str = self.cleaned_data["known"].strip()
        if known != str(self.in_use):
            raise forms.ValidationError(_("This is not how many of them were used in the last seven days."))
        return known


@require_http_methods(["GET", "HEAD", "POST"])
def tokens_ticked(request: PageRequest, principal: PagePrincipal) -> HttpResponse:
    """Asks first; sent again, it is done, for each as far as that one may be stopped."""
    act = request.POST.get("act")
    if act not in set(Act):
        return redirect(_back(request, principal))
    rows = _ticked(request, principal, timezone.now())
    if not rows:
        messages.warning(request, _("Nothing was ticked that is still there."))
        return redirect(_back(request, principal))
    in_use = sum(row.is_in_use for row in rows)
    is_sent = request.POST.get("step") == "confirm"
    asks = act == Act.DELETE and in_use > 0
    form = ConfirmationForm(request.POST if is_sent else None, in_use=in_use) if asks else None
    if is_sent and (form is None or form.is_valid()):
        return _done(request, principal, Act(act), rows)
    context = {
        "act": act,
        "rows": rows,
        "count": len(rows),
        "in_use": in_use,
        "missing": len(_ids(request)) - len(rows),
        "made": ApiToken.objects.filter(parent__in=[row.token.pk for row in rows]).count() if act == Act.DELETE else 0,
        "form": form,
        **_kept(request, principal),
    }
    status = UNPROCESSABLE if form and form.errors else 200
    return render(request, "portal/tokens/ticked.html", context, status=status)


def _done(request: PageRequest, principal: PagePrincipal, act: Act, rows: Sequence[TokenRow]) -> HttpResponse:
    results = ACTS[act](by=principal, tokens=[row.token for row in rows], at=timezone.now())
    tried = [
        Tried(row=row, because=str(result.refused) if result.refused else "")
        for row, result in zip(rows, results, strict=True)
    ]
    refused = [each for each in tried if each.because]
    done = len(tried) - len(refused)
    said = _said(act, done)
    if not refused:
        messages.success(request, said)
        return redirect(_back(request, principal))
    context = {
        "act": act,
        "said": said if done else "",
        "done": [each for each in tried if not each.because],
        "refused": refused,
        **_kept(request, principal),
    }
    return render(request, "portal/tokens/ticked_refused.html", context, status=UNPROCESSABLE)


def _said(act: Act, count: int) -> str:
    if act == Act.DELETE:
        words = ngettext("%(count)d token was deleted.", "%(count)d tokens were deleted.", count)
    else:
        words = ngettext(
            "%(count)d token is disabled and stops working now.",
            "%(count)d tokens are disabled and stop working now.",
            count,
        )
    return words % {"count": count}


def _ids(request: PageRequest) -> set[str]:
    """As many as a page can have."""
    most = Pages.max_page_size
    return {each for each in request.POST.getlist("token")[:most] if TOKEN_ID.fullmatch(each)}


def _ticked(request: PageRequest, principal: PagePrincipal, at: datetime) -> list[TokenRow]:
    """What is in use comes first."""
    found = access.visible_tokens(principal).filter(token_id__in=_ids(request))
    rows = token_rows(with_all_shown(found, principal).order_by("name_key", "pk"), request, principal, at)
    return sorted(rows, key=lambda row: not row.is_in_use)


def _list(request: PageRequest, principal: PagePrincipal) -> str:
    """The list that they were ticked in."""
    is_all = principal.tenant is None and request.POST.get("list") == "all-tokens"
    return "all-tokens" if is_all else "tokens"


def _query(request: PageRequest) -> str:
    """What narrowed it, as it was; the address before it is ours whatever is sent here."""
    query = QueryDict(request.POST.get("query", "")[:LONGEST_QUERY].removeprefix("?")).urlencode()
    return f"?{query}" if query else ""


def _kept(request: PageRequest, principal: PagePrincipal) -> dict[str, str]:
    return {
        "list": _list(request, principal),
        "query": _query(request),
        "back_url": _back(request, principal),
        "ticked_url": request.place.url("tokens-ticked"),
    }


def _back(request: PageRequest, principal: PagePrincipal) -> str:
    return request.place.url(_list(request, principal)) + _query(request)
