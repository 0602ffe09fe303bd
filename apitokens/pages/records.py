"""The record of what was done, and lists to take away: of a tenant in the portal, of an environment in the console.

`GET /api/v1/events` is the same record for machines.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django import forms
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_safe

from apitokens import access
from apitokens.finding import Chosen, among
from apitokens.models import ApiToken
from apitokens.orders import InvalidField
from apitokens.pages.exports import Cells, csv_answer, newest_first
from apitokens.pages.paging import page_of
from apitokens.pages.places import PagePrincipal, PageRequest
from apitokens.pages.rows import VERBS, TokenRow, event_rows
from apitokens.paging import EventPages
from audit.models import ActorKind, AuditEvent, Outcome
from audit.queries import Sought, events_of

UNPROCESSABLE = 422
# What verbs are about: the noun before the dot.
FAMILIES = {
    "access": gettext_lazy("Refused at the door"),
    "admin": gettext_lazy("The operator"),
    "apitoken": gettext_lazy("Tokens"),
    "brand": gettext_lazy("Brand"),
    "sso": gettext_lazy("Single sign-on"),
    "configuration": gettext_lazy("Copied configuration"),
    "environment": gettext_lazy("Environment"),
    "invitation": gettext_lazy("Invitations"),
    "membership": gettext_lazy("Members"),
    "permission": gettext_lazy("Permissions"),
    "portal_session": gettext_lazy("Portal sessions"),
    "role": gettext_lazy("Roles"),
    "signing_key": gettext_lazy("Signing keys"),
    "tenant": gettext_lazy("Tenants"),
    "token_type": gettext_lazy("Token types"),
    "user": gettext_lazy("People erased"),
    "vendor_invitation": gettext_lazy("Invitations of the vendor"),
    "vendor_membership": gettext_lazy("The vendor's people"),
}
# What the operator does belongs to no environment, and so is in none's record.
OF_NO_ENVIRONMENT = {"admin", "user"}
KINDS = {
    ActorKind.USER: gettext_lazy("People"),
    ActorKind.TOKEN: gettext_lazy("Tokens"),
    ActorKind.SYSTEM: gettext_lazy("System"),
}
OUTCOMES = {Outcome.DONE: gettext_lazy("Done"), Outcome.REFUSED: gettext_lazy("Refused")}
# The columns of the files: stable names, for those who read them by program.
EVENT_HEADS = (
    "at", "what", "verb", "outcome", "reason", "actor_kind", "actor", "actor_id", "on_behalf_of",
    "tenant", "tenant_id", "target_kind", "target", "target_id", "before", "after", "ip", "request_id", "id",
    "changes",
)  # fmt: skip
TOKEN_FILTERS = ("tenant", "owner", "kind", "role", "creator", "parent", "state", "never_used", "expiring")
TOKEN_HEADS = (
    "id", "client_id", "name", "description", "owner", "owner_name", "kind", "tenant", "tenant_id", "state", "roles",
    "granted", "permissions", "last_four", "ip_allowlist", "audiences", "created_at", "created_by", "not_before",
    "expires_at", "disabled_at", "last_used_at", "last_used_ip",
)  # fmt: skip


class DateInput(forms.DateInput):
    input_type = "date"


class EventSearch(forms.Form):
    """What of the record is shown. Sent by GET: a filtered page has an address that can be kept."""

    about = forms.ChoiceField(label=gettext_lazy("About"), required=False)
    by = forms.ChoiceField(
        label=gettext_lazy("By"), required=False, choices=[("", gettext_lazy("Anybody")), *KINDS.items()]
    )
    outcome = forms.ChoiceField(
        label=gettext_lazy("Outcome"),
        required=False,
        choices=[("", gettext_lazy("Either")), *OUTCOMES.items()],
    )
    since = forms.DateField(label=gettext_lazy("From"), required=False, widget=DateInput(format="%Y-%m-%d"))
    until = forms.DateField(label=gettext_lazy("To"), required=False, widget=DateInput(format="%Y-%m-%d"))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        families = {verb.partition(".")[0] for verb in VERBS} - OF_NO_ENVIRONMENT
        named = sorted((str(FAMILIES.get(family, family)), family) for family in families)
        about: Any = self.fields["about"]
        about.choices = [("", _("Everything")), *((family, label) for label, family in named)]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        since, until = cleaned.get("since"), cleaned.get("until")
        if since and until and until < since:
            self.add_error("until", _("This day is before the first one."))
        return cleaned

    def sought(self) -> Sought:
        """Days are whole days in UTC; the last one is included."""
        asked = self.cleaned_data
        return Sought(
            verb=asked["about"],
            actor_kind=asked["by"],
            outcome=asked["outcome"],
            since=_midnight(asked["since"]),
            until=_midnight(asked["until"], days=1),
        )

    @property
    def is_narrowed(self) -> bool:
        return any(self.data.get(name) for name in self.fields)


def _midnight(day: date | None, *, days: int = 0) -> datetime | None:
    """None also for the calendar's last day, after which there is nothing to leave out."""
    if day is None or (days and day == date.max):
        return None
    return datetime.combine(day + timedelta(days=days), time.min, tzinfo=UTC)


@require_safe
def audit(request: PageRequest, principal: PagePrincipal) -> HttpResponse:
    form = EventSearch(request.GET)
    if not form.is_valid():
        return _record(request, form, [], None)
    pages = EventPages()
    page = page_of(pages, _found(principal, form), request)
    return _record(request, form, page, pages)


@require_safe
def audit_csv(request: PageRequest, principal: PagePrincipal) -> HttpResponseBase:
    form = EventSearch(request.GET)
    if not form.is_valid():
        return _record(request, form, [], None)
    batches = newest_first(_found(principal, form), by="at", as_cells=_event_cells)
    return csv_answer(_file_name("audit", request), EVENT_HEADS, batches)


@require_safe
def tokens_csv(request: PageRequest, principal: PagePrincipal) -> HttpResponseBase:
    """The tokens that the person sees in their list, narrowed as the list is, with what each may do now.

    Never a secret, and none to look for either: what is searched by text is searched on the page.
    """
    at = timezone.now()
    found = among(access.visible_tokens(principal), _chosen(request), environment=principal.environment, at=at)
    visible = found.with_standing().with_last_four().select_related("creator")

    def as_cells(tokens: list[ApiToken]) -> Iterator[Cells]:
        return (_token_cells(TokenRow(token, principal, at, request.place)) for token in tokens)

    batches = newest_first(visible, by="created_at", as_cells=as_cells)
    return csv_answer(_file_name("tokens", request), TOKEN_HEADS, batches)


def tokens_csv_url(request: PageRequest, chosen: Chosen) -> str:
    """Where the list so narrowed is as a file."""
    asked = urlencode({name: text for name, text in chosen.described().items() if name in TOKEN_FILTERS})
    return request.place.url("tokens-csv") + (f"?{asked}" if asked else "")


def _chosen(request: PageRequest) -> Chosen:
    """Raises InvalidField."""
    asked: dict[str, Any] = {name: request.GET[name] for name in TOKEN_FILTERS if request.GET.get(name)}
    for name in {"tenant", "creator"} & set(asked):
        try:
            asked[name] = UUID(asked[name])
        except ValueError as error:
            raise InvalidField(name, _("This is no id.")) from error
    for name in {"never_used", "expiring"} & set(asked):
        asked[name] = asked[name] == "true"
    return Chosen(**asked)


def _found(principal: PagePrincipal, form: EventSearch) -> Any:
    tenant_id = principal.tenant.id if principal.tenant else None
    return events_of(environment_id=principal.environment.id, tenant_id=tenant_id, sought=form.sought())


def _record(request: PageRequest, form: EventSearch, page: list[AuditEvent], pages: EventPages | None) -> HttpResponse:
    context = {
        "form": form,
        "events": event_rows(page, with_tenants=request.place.namespace == "console"),
        "is_narrowed": form.is_narrowed,
        "audit_url": request.place.url("audit"),
        "csv_url": _with_search(request.place.url("audit-csv"), request, form),
        "next_url": pages.get_next_link() if pages else None,
        "previous_url": pages.get_previous_link() if pages else None,
    }
    return render(request, "portal/audit.html", context, status=200 if pages else UNPROCESSABLE)


def _with_search(url: str, request: HttpRequest, form: EventSearch) -> str:
    asked = request.GET.copy()
    for name in set(asked) - set(form.fields):
        del asked[name]
    return f"{url}?{asked.urlencode()}" if asked else url


def _file_name(what: str, request: PageRequest) -> str:
    return f"{what}-{request.place.slug}-{timezone.now():%Y-%m-%d}"


def _event_cells(events: list[AuditEvent]) -> Iterable[Cells]:
    for row in event_rows(events, with_tenants=True):
        event = row.event
        yield (
            event.at.isoformat(), row.verb_label, event.verb, event.outcome, event.reason, event.actor_kind, row.actor,
            event.actor_id, event.on_behalf_of, row.tenant, event.tenant_id, event.target_kind, row.target,
            event.target_id, _json(event.before), _json(event.after), event.ip, event.request_id, event.id,
            "; ".join(row.changes),
        )  # fmt: skip


def _token_cells(row: TokenRow) -> Cells:
    token = row.token
    return (
        token.token_id, row.client_id, token.name, token.description, token.owner, row.owner_label, token.kind,
        token.tenant.name if token.tenant else "", token.tenant_id, row.state_code,
        " ".join(sorted({role[0] for role in token.role_rows})), " ".join(token.granted),
        " ".join(sorted(row.now.permissions)), row.last_four, " ".join(token.ip_allowlist),
        " ".join(token.audiences), token.created_at.isoformat(), row.created_by, _moment(token.not_before),
        _moment(token.expires_at), _moment(token.disabled_at), _moment(token.last_used_at), token.last_used_ip,
    )  # fmt: skip


def _moment(at: datetime | None) -> str:
    return at.isoformat() if at else ""


def _json(detail: Any) -> str:
    return "" if detail is None else json.dumps(detail, sort_keys=True, ensure_ascii=False)
