"""Counts over time as stacked bars: drawn by the server, so that no script and no style of its own is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log10

from audit.words import grouped

# In the units of the drawing, which is stretched to the width that there is.
STEP, BAR, GAP, HEIGHT = 10, 8, 1, 100
# What happened at all is seen, however little it was.
LEAST = 1.5


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One bar: how often of each kind, by the kinds' codes, and the whole of it in words."""

    counts: Mapping[str, int]
    words: str
    short: str

    @property
    def total(self) -> int:
        return sum(self.counts.values())


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A rectangle; its numbers are text, so that no language puts a comma into them."""

    kind: str
    x: str
    y: str
    height: str


@dataclass(frozen=True, kw_only=True)
class Bar:
    words: str
    x: str
    segments: Sequence[Segment]


@dataclass(frozen=True, kw_only=True)
class Chart:
    """`moments` in the order of time; `kinds` from the ground upwards. `words` says what the drawing shows."""

    moments: Sequence[Moment]
    kinds: Sequence[str]
    words: str

    width_of_bar = BAR
    height = HEIGHT

    @property
    def width(self) -> int:
        return STEP * len(self.moments)

    @property
    def top(self) -> int:
        """The number at the upper edge: round, and no less than the highest bar."""
        return _round_up(max((moment.total for moment in self.moments), default=0))

    @property
    def top_text(self) -> str:
        return grouped(self.top)

    @property
    def labels(self) -> list[str]:
        """Of the first, the middle and the last bar."""
        last = len(self.moments) - 1
        return [self.moments[place].short for place in (0, ceil(last / 2), last)] if self.moments else []

    @property
    def bars(self) -> list[Bar]:
        return [self._bar(place, moment) for place, moment in enumerate(self.moments)]

    def _bar(self, place: int, moment: Moment) -> Bar:
        x, y = f"{place * STEP + GAP}", float(HEIGHT)
        segments = []
        for kind in self.kinds:
            if count := moment.counts.get(kind, 0):
                height = max(count / self.top * HEIGHT, LEAST)
                y = max(y - height, 0)
                segments.append(Segment(kind=kind, x=x, y=f"{y:.2f}", height=f"{height:.2f}"))
        return Bar(words=moment.words, x=x, segments=segments)


def _round_up(number: int) -> int:
    """To 1, 2 or 5 and zeros."""
    if number <= 1:
        return 1
    magnitude: int = 10 ** int(log10(number))
    return next(step * magnitude for step in (1, 2, 5, 10) if step * magnitude >= number)
