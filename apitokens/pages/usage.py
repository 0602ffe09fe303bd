"""How often tokens are used: of a tenant in the portal, of an environment in the console, of one token on its page.

`GET /api/v1/usage` has the same counts for machines.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_safe

from apitokens import access
from apitokens.counting import Interval, Share, Shares, Span, by_tenant, by_time, by_token, hours_of, span_of, total
from apitokens.models import ApiToken, UsageHour
from apitokens.pages.charts import Chart, Moment
from apitokens.pages.places import PagePrincipal, PageRequest, Place
from apitokens.pages.targets import as_uuid
from audit.queries import traces_of
from audit.words import grouped, listed
from tenants.models import Tenant

DAYS = (7, 30, 90)
SHOWN = 20
Outcome = UsageHour.Outcome


@dataclass(frozen=True)
class Column:
    """What people are shown of the outcomes: fewer of them, in words. `kind` is the colour of its bars."""

    kind: str
    label: str | Promise
    outcomes: frozenset[str]

    def number(self, counts: Mapping[str, int]) -> Number:
        return Number(self.kind, str(self.label), sum(counts.get(outcome, 0) for outcome in self.outcomes))


COLUMNS = (
    Column("issued", gettext_lazy("JWTs issued"), frozenset({Outcome.GRANTED})),
    Column("accepted", gettext_lazy("API requests"), frozenset({Outcome.ACCEPTED})),
    Column("introspected", gettext_lazy("Introspected"), frozenset({Outcome.INTROSPECTED})),
    Column("refused", gettext_lazy("Refused"), frozenset({Outcome.UNUSABLE, Outcome.REJECTED})),
    Column("wrong", gettext_lazy("Wrong secret"), frozenset({Outcome.WRONG_SECRET, Outcome.RETIRED_SECRET})),
)

# Those in which it was let in.
LET_IN = frozenset({"issued", "accepted", "introspected"})


@dataclass(frozen=True)
class Number:
    kind: str
    label: str
    count: int

    @property
    def text(self) -> str:
        return grouped(self.count)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A day, a token or a tenant, and how often."""

    label: str
    counts: Mapping[str, int]
    url: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """`first` heads the column of what the rows are about."""

    name: str
    title: str
    first: str
    rows: Sequence[Row]
    columns: Sequence[Column] = COLUMNS

    @property
    def lines(self) -> list[tuple[Row, list[Number]]]:
        return [(row, [column.number(row.counts) for column in self.columns]) for row in self.rows]

    def without_nothing(self) -> Table:
        """Only the rows and columns in which something is counted."""
        rows = [row for row in self.rows if row.counts]
        columns = [column for column in self.columns if any(column.number(row.counts).count for row in rows)]
        return replace(self, rows=rows, columns=columns)


@require_safe
def usage(request: PageRequest, principal: PagePrincipal) -> HttpResponse:
    days, tenant = _days(request), _tenant(request, principal)
    span = _span(days, timezone.now())
    hours = hours_of(
        environment_id=principal.environment.id,
        tenant_id=tenant.id if tenant else None,
        since=span.since,
        until=span.until,
    )
    of_days = by_time(hours, span)
    tables = []
    if everything := total(of_days):
        tables.append(_by_day(of_days))
        if tenant is None:
            tables.append(_by_tenant(principal, request.place, by_tenant(hours, most=SHOWN, all_of=of_days), days))
        tables.append(_by_token(principal, request.place, by_token(hours, most=SHOWN, all_of=of_days)))
    narrowed = tenant if principal.tenant is None else None
    context = {
        "tables": tables,
        "total": [column.number(everything) for column in COLUMNS],
        "tenant": narrowed,
        "usage_url": request.place.url("usage"),
        "choices": [
            {"label": _in_days(each), "url": _url(request.place, each, narrowed), "is_current": each == days}
            for each in DAYS
        ],
    }
    return render(request, "portal/usage.html", context)


@dataclass(frozen=True, kw_only=True)
class Period:
    """How much of a token's use is shown, as addresses name it."""

    name: str
    days: int
    interval: Interval
    label: str | Promise


PERIODS = (
    Period(name="day", days=1, interval=Interval.HOUR, label=gettext_lazy("24 hours")),
    Period(name="week", days=7, interval=Interval.DAY, label=gettext_lazy("7 days")),
    Period(name="month", days=30, interval=Interval.DAY, label=gettext_lazy("30 days")),
    Period(name="quarter", days=90, interval=Interval.DAY, label=gettext_lazy("90 days")),
)
USUAL = PERIODS[2]


@dataclass(frozen=True, kw_only=True)
class Use:
    """How often one token was used of late; `chart` and `table` say the same. Both are None where it was not."""

    choices: Sequence[Mapping[str, Any]]
    legend: Sequence[Number] = ()
    chart: Chart | None = None
    table: Table | None = None


def use_of(principal: PagePrincipal, token: ApiToken, *, asked: str, url: str, at: datetime) -> Use | None:
    """For the page of one token, at `url`; None for whoever may not see how often tokens are used."""
    if not principal.holds("usage:read"):
        return None
    period = next((period for period in PERIODS if period.name == asked), USUAL)
    back = timedelta(hours=23) if period.interval == Interval.HOUR else timedelta(days=period.days - 1)
    span = span_of(period.interval, since=at - back, until=at, at=at)
    hours = hours_of(
        environment_id=token.environment_id,
        tenant_id=principal.tenant.id if principal.tenant else None,
        token_id=token.id,
        since=span.since,
        until=span.until,
    )
    shares = by_time(hours, span)
    choices = [
        {"label": each.label, "url": f"{url}?use={each.name}#usage", "is_current": each == period} for each in PERIODS
    ]
    if not (everything := total(shares)):
        return Use(choices=choices)
    legend = [number for column in COLUMNS if (number := column.number(everything)).count]
    table = _by_hour(shares) if period.interval == Interval.HOUR else _by_day(shares)
    return Use(choices=choices, legend=legend, chart=_chart(shares, legend, period), table=table.without_nothing())


def _chart(shares: Sequence[Share], legend: Sequence[Number], period: Period) -> Chart:
    by_hour = period.interval == Interval.HOUR
    moments = []
    for share in reversed(shares):
        numbers = [number for column in COLUMNS if (number := column.number(share.counts)).count]
        when = _hour(share.of) if by_hour else _day(share.of)
        what = listed(f"{number.label} {number.text}" for number in numbers) or _("nothing")
        moments.append(
            Moment(
                counts={number.kind: number.count for number in numbers},
                words=_("%(when)s: %(what)s") % {"when": when, "what": what},
                short=date_format(share.of, "TIME_FORMAT" if by_hour else "MONTH_DAY_FORMAT"),
            )
        )
    peak = max(moments, key=lambda moment: moment.total)
    let_in = sum(number.count for number in legend if number.kind in LET_IN)
    words = _("Let in: %(let_in)s. Refused: %(refused)s. The most at once: %(peak)s.") % {
        "let_in": grouped(let_in),
        "refused": grouped(sum(each.count for each in legend) - let_in),
        "peak": peak.words,
    }
    return Chart(moments=moments, kinds=[number.kind for number in legend], words=words)


def _span(days: int, at: datetime) -> Span:
    """So many days, of which today is the last."""
    return span_of(Interval.DAY, since=at - timedelta(days=days - 1), until=at, at=at)


def _days(request: HttpRequest) -> int:
    asked = request.GET.get("days", "")
    return int(asked) if asked in map(str, DAYS) else DAYS[0]


def _tenant(request: HttpRequest, principal: PagePrincipal) -> Tenant | None:
    """The person's own, or the one that the vendor's asks about; raises Http404."""
    if principal.tenant is not None or not request.GET.get("tenant"):
        return principal.tenant
    tenant_id = as_uuid(request.GET["tenant"])
    tenant = access.visible_tenants(principal).filter(pk=tenant_id).first() if tenant_id else None
    if tenant is None:
        raise Http404
    return tenant


def _url(place: Place, days: int, tenant: Tenant | None) -> str:
    asked: dict[str, Any] = {"days": days} if days != DAYS[0] else {}
    if tenant is not None:
        asked["tenant"] = tenant.id
    return place.url("usage") + (f"?{urlencode(asked)}" if asked else "")


def _day(at: datetime) -> str:
    return _("%(weekday)s %(day)s") % {"weekday": date_format(at, "D"), "day": date_format(at, "DATE_FORMAT")}


def _hour(at: datetime) -> str:
    return _("%(day)s, %(time)s") % {"day": _day(at), "time": date_format(at, "TIME_FORMAT")}


def _in_days(days: int) -> str:
    return ngettext("%(days)d day", "%(days)d days", days) % {"days": days}


def _by_day(days: Iterable[Share]) -> Table:
    rows = [Row(label=_day(share.of), counts=share.counts) for share in days]
    return Table(name="days", title=_("By day"), first=_("Day (UTC)"), rows=rows)


def _by_hour(hours: Iterable[Share]) -> Table:
    rows = [Row(label=_hour(share.of), counts=share.counts) for share in hours]
    return Table(name="hours", title=_("By hour"), first=_("Hour (UTC)"), rows=rows)


def _by_token(principal: PagePrincipal, place: Place, shares: Shares) -> Table:
    ids = {share.of for share in shares.greatest}
    visible = {token.id: token for token in access.visible_tokens(principal).filter(pk__in=ids)}
    gone = _names_of_gone(principal, ids - visible.keys())
    rows = []
    for share in shares.greatest:
        if token := visible.get(share.of):
            rows.append(
                Row(label=token.name, note=token.token_id, url=place.url("token", token.token_id), counts=share.counts)
            )
        elif share.of in gone:
            rows.append(Row(label=gone[share.of], note=_("Deleted"), counts=share.counts))
        else:
            rows.append(Row(label=_("A token that is not yours to see"), counts=share.counts))
    return Table(name="tokens", title=_("By token"), first=_("Token"), rows=[*rows, *_others(shares)])


def _names_of_gone(principal: PagePrincipal, ids: Iterable[UUID]) -> dict[UUID | None, str]:
    """What the record keeps of those that the person could have seen."""
    kept = {id_: (trace.before or {}, trace.tenant_id) for id_, trace in traces_of(ids).items()}
    return {
        id_: str(before.get("name", ""))
        for id_, (before, tenant_id) in kept.items()
        if access.sees_deleted(principal, owner=before.get("owner"), tenant_id=tenant_id)
    }


def _by_tenant(principal: PagePrincipal, place: Place, shares: Shares, days: int) -> Table:
    ids = [share.of for share in shares.greatest]
    tenants = {tenant.id: tenant for tenant in access.visible_tenants(principal).filter(pk__in=ids)}
    rows = []
    for share in shares.greatest:
        if tenant := tenants.get(share.of):
            rows.append(Row(label=tenant.name, note=tenant.slug, url=_url(place, days, tenant), counts=share.counts))
        elif share.of == principal.environment.id:
            rows.append(Row(label=_("In no tenant"), note=_("For the whole environment"), counts=share.counts))
        else:
            rows.append(Row(label=_("A tenant that was erased"), counts=share.counts))
    return Table(name="tenants", title=_("By tenant"), first=_("Tenant"), rows=[*rows, *_others(shares)])


def _others(shares: Shares) -> list[Row]:
    return [Row(label=_("All others"), counts=shares.others)] if shares.others else []
