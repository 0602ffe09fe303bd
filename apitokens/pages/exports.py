"""Lists as CSV (RFC 4180), streamed: a batch in memory at a time, however long the list is.

Rows are walked by time and id, as the pages are, so that no transaction and no cursor of the database stays open while
somebody's slow line takes them.
"""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from django.db.models import Model, QuerySet
from django.http import StreamingHttpResponse
from django.utils.translation import gettext as _

Row = TypeVar("Row", bound=Model)
Cells = Sequence[object]

ROWS_MAX = 100_000
BATCH = 1_000
# What a spreadsheet takes for the beginning of a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


class _Line:
    """What csv.writer writes to: the line itself is the answer."""

    def write(self, line: str) -> str:
        return line


def cell(value: object) -> str:
    """As text that no spreadsheet runs: what would begin a formula gets an apostrophe before it."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(FORMULA) else text


def csv_answer(name: str, heads: Cells, batches: Iterable[Iterable[Cells]]) -> StreamingHttpResponse:
    """`name` is the file's, without its ending. Each batch becomes one piece of the body."""
    writer = csv.writer(_Line())

    def pieces() -> Iterator[str]:
        yield writer.writerow([cell(head) for head in heads])
        for batch in batches:
            yield "".join(writer.writerow([cell(value) for value in cells]) for cells in batch)

    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"', "Cache-Control": "no-store"}
    return StreamingHttpResponse(pieces(), content_type="text/csv; charset=utf-8", headers=headers)


def newest_first(
    rows: QuerySet[Row], *, by: str, as_cells: Callable[[list[Row]], Iterable[Cells]]
) -> Iterator[Iterable[Cells]]:
    """At most ROWS_MAX rows in batches; a last row says so when there were more. `by` is the field of their time."""
    rest, left = rows, ROWS_MAX
    while left:
        size = min(BATCH, left)
        found = list(rest.order_by(f"-{by}", "-id")[: size + 1])
        batch, has_more = found[:size], len(found) > size
        yield as_cells(batch)
        if not has_more:
            return
        left -= size
        moment = getattr(batch[-1], by)
        rest = rows.filter(**{f"{by}__lte": moment}).exclude(**{by: moment, "id__gte": batch[-1].pk})
    yield [[_("Cut after %d rows: ask for a shorter time to get the rest.") % ROWS_MAX]]
