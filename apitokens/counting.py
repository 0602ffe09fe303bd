"""Reading what was counted: how often tokens were used, by hour or day, token and tenant."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from django.db.models import F, Q, QuerySet, Sum
from django.db.models.functions import TruncDay

from apitokens.models import UsageHour
from apitokens.orders import InvalidField

# What was counted longer ago is erased: a year, and the month to compare it with.
KEPT = timedelta(days=396)


class Interval(StrEnum):
    HOUR = "hour"
    DAY = "day"


# How much one question may be about, and is about when it does not say.
LONGEST = {Interval.HOUR: timedelta(days=7), Interval.DAY: timedelta(days=92)}
USUAL = {Interval.HOUR: timedelta(days=1), Interval.DAY: timedelta(days=7)}


@dataclass(frozen=True, kw_only=True)
class Span:
    """From `since` until before `until`, in whole hours or days (UTC)."""

    since: datetime
    until: datetime
    interval: Interval


def span_of(interval: Interval, *, since: datetime | None, until: datetime | None, at: datetime) -> Span:
    """What was asked, widened to whole hours or days; raises InvalidField for more than one question may be about."""
    step = timedelta(hours=1) if interval == Interval.HOUR else timedelta(days=1)
    try:
        end = _floor(until or at, interval)
        if end < (until or at):
            end += step
        begin = _floor(since, interval) if since else end - USUAL[interval]
    except OverflowError as error:
        raise InvalidField("until", "That is beyond the calendar.") from error
    if end <= begin:
        raise InvalidField("until", "The end is not after the beginning.")
    if end - begin > LONGEST[interval]:
        days = LONGEST[interval].days
        raise InvalidField("since", f"At most {days} days at once by the {interval}: ask for them one after the other.")
    return Span(since=begin, until=end, interval=interval)


def _floor(at: datetime, interval: Interval) -> datetime:
    hour = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return hour if interval == Interval.HOUR else hour.replace(hour=0)


def hours_of(
    *, environment_id: UUID, tenant_id: UUID | None, since: datetime, until: datetime, token_id: UUID | None = None
) -> QuerySet[UsageHour]:
    """Of one tenant, or with None of the whole environment; perhaps of one token alone."""
    found = UsageHour.objects.filter(environment=environment_id, hour__gte=since, hour__lt=until)
    if tenant_id is not None:
        found = found.filter(scope_id=tenant_id)
    if token_id is not None:
        found = found.filter(token_id=token_id)
    return found


@dataclass(frozen=True)
class Line:
    """What one token did in one tenant (None: for its environment) in one hour or day."""

    began: datetime
    token_id: UUID
    scope_id: UUID
    counts: Mapping[str, int]


# Where a page of lines ends: the beginning, token and scope of its last line.
After = tuple[datetime, UUID, UUID]


def lines(hours: QuerySet[UsageHour], interval: Interval, *, after: After | None, most: int) -> list[Line]:
    """The first `most` of them, newest first, after the one that a page ended with."""
    began = F("hour") if interval == Interval.HOUR else TruncDay("hour", tzinfo=UTC)
    rows = hours.annotate(began=began)
    if after is not None:
        at, token_id, scope_id = after
        rows = rows.filter(
            Q(began__lt=at) | Q(began=at, token_id__gt=token_id) | Q(began=at, token_id=token_id, scope_id__gt=scope_id)
        )
    found = rows.values("began", "token_id", "scope_id").annotate(**_by_outcome())
    return [
        Line(row["began"], row["token_id"], row["scope_id"], _counts(row))
        for row in found.order_by("-began", "token_id", "scope_id")[:most]
    ]


def _by_outcome() -> dict[str, Any]:
    return {f"of_{outcome}": Sum("count", filter=Q(outcome=outcome)) for outcome in UsageHour.Outcome.values}


def _counts(row: Mapping[str, Any]) -> dict[str, int]:
    """Every outcome that occurred."""
    found = {outcome: row[f"of_{outcome}"] for outcome in UsageHour.Outcome.values}
    return {outcome: count for outcome, count in found.items() if count}


@dataclass(frozen=True)
class Share:
    """The counts by outcome of what `of` names: a day, a token, a tenant."""

    of: Any
    counts: Mapping[str, int]


@dataclass(frozen=True)
class Shares:
    """The greatest, and what all the others have together."""

    greatest: list[Share]
    others: Mapping[str, int] = field(default_factory=dict)


def by_time(hours: QuerySet[UsageHour], span: Span) -> list[Share]:
    """Every hour or day of the span, newest first, also one of which there is nothing to tell."""
    by_day = span.interval == Interval.DAY
    rows = hours.values(began=TruncDay("hour", tzinfo=UTC) if by_day else F("hour")).annotate(**_by_outcome())
    found = {row["began"]: _counts(row) for row in rows.order_by()}
    step = timedelta(days=1) if by_day else timedelta(hours=1)
    steps = (span.until - span.since) // step
    return [Share(began, found.get(began, {})) for began in (span.until - step * (n + 1) for n in range(steps))]


def by_token(hours: QuerySet[UsageHour], *, most: int, all_of: Iterable[Share]) -> Shares:
    return _greatest(hours, "token_id", most, all_of)


def by_tenant(hours: QuerySet[UsageHour], *, most: int, all_of: Iterable[Share]) -> Shares:
    """By tenant, or environment for what acted in none."""
    return _greatest(hours, "scope_id", most, all_of)


def _greatest(hours: QuerySet[UsageHour], column: str, most: int, all_of: Iterable[Share]) -> Shares:
    """However many there are, so many rows; `all_of` has the same counts in other shares: the rest follows from it."""
    rows = hours.values(column).annotate(total=Sum("count"), **_by_outcome()).order_by("-total", column)[:most]
    greatest = [Share(row[column], _counts(row)) for row in rows]
    everything, shown = total(all_of), total(greatest)
    others = {outcome: count - shown.get(outcome, 0) for outcome, count in everything.items()}
    return Shares(greatest, {outcome: count for outcome, count in others.items() if count > 0})


def total(shares: Iterable[Share]) -> dict[str, int]:
    summed: dict[str, int] = {}
    for share in shares:
        for outcome, count in share.counts.items():
            summed[outcome] = summed.get(outcome, 0) + count
    return summed
