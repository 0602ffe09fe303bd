"""A page of its own for what stops or ends something: it names the thing, and says what will happen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.functional import Promise
from django.utils.translation import gettext as _

from apitokens import access
from apitokens.orders import InvalidField
from apitokens.pages.places import PageRequest
from apitokens.pages.refusable import RefusableForm
from apitokens.pages.rows import TokenRow
from apitokens.principals import ConsolePrincipal
from console.forms import TypedName

UNPROCESSABLE = 422


@dataclass(frozen=True, kw_only=True)
class Question:
    """`points` say what will happen. `typed` is the name that the person must type. `instead` is (text, label,
    address) of something milder. `impossible` says why it can't be done now: then nothing is asked. `tokens` are those
    that somebody has to think of, under `tokens_heading`."""

    permission: str
    heading: str
    points: Sequence[str | Promise]
    submit_label: str
    back_url: str
    back_label: str
    done: str
    done_url: str
    warning: str = ""
    typed: str = ""
    tone: str = "danger"
    instead: tuple[str, str, str] | None = None
    impossible: str = ""
    tokens_heading: str = ""
    tokens: Sequence[TokenRow] = ()
    are_tokens_cut: bool = False


def ask(
    request: PageRequest, principal: ConsolePrincipal, question: Question, act: Callable[[str], object]
) -> HttpResponse:
    """The page, or after its POST the act, which gets the name that was typed."""
    kind: type[RefusableForm] = TypedName if question.typed else RefusableForm
    if request.method != "POST":
        access.require(principal, question.permission)
    form = kind(request.POST if request.method == "POST" else None)
    if question.typed:
        form.fields["name"].label = _("Type “%(name)s” to confirm") % {"name": question.typed}
    if form.is_valid():
        try:
            act(form.cleaned_data.get("name", ""))
        except InvalidField as refusal:
            form.add_refusal(refusal)
        else:
            messages.success(request, question.done)
            return redirect(question.done_url)
    context: dict[str, Any] = {"question": question, "form": form}
    return render(request, "console/confirm.html", context, status=UNPROCESSABLE if form.errors else 200)
