"""Every token and component of the pages on one page, for whoever works on them. Mounted in debug only."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.messages.storage.base import Message
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from apitokens import colours
from apitokens.colours import DARK, LIGHT
from apitokens.pages.choices import ExplainedRadios, OfferedChoice
from apitokens.pages.rows import STATES
from tenants.models import Environment

SHEET = settings.BASE_DIR / "static" / "portal.css"
PAIR = re.compile(r"--([a-z-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\);")
LENGTH = re.compile(r"--(s\d|radius[a-z-]*): ([\d.]+)(rem|px);")
REM, TILE = 16, 40
# What each is laid on or, as a ground, carries; without one it is decoration and is measured against nothing.
BESIDE = {
    "on-fill": "accent",
    "on-bad": "bad",
    "good": "good-soft",
    "warn": "warn-soft",
    "bad": "bad-soft",
    "accent": "accent-soft",
    "text": "sunken",
    "muted": "sunken",
}
GROUNDS = {"page", "surface", "sunken", "line", "wood", "accent-soft", "good-soft", "warn-soft", "bad-soft"}


@dataclass(frozen=True)
class Half:
    """A colour of one scheme, on the ground where it is read worst."""

    colour: str
    ground: str
    ratio: str


@dataclass(frozen=True)
class Length:
    """As it is written, and as it is drawn: its height and, of a radius, its corner, in pixels."""

    name: str
    written: str
    height: float
    corner: float


@dataclass(frozen=True)
class Colour:
    name: str
    beside: str
    halves: tuple[Half, Half]


class SampleForm(forms.Form):
    """One field of each kind, sent with mistakes in it."""

    name = forms.CharField(label="Name", help_text="What is it for?")
    email = forms.EmailField(label="E-mail", required=False)
    description = forms.CharField(label="Description", required=False, widget=forms.Textarea({"rows": 3}))
    expires = OfferedChoice(label="Expires", choices=[("7", "7 days"), ("30", "30 days")], required=False)
    kind = OfferedChoice(label="Kind", choices=[("a", "Access token"), ("b", "Client")], widget=ExplainedRadios)
    strict = forms.BooleanField(label="Strict ceiling", required=False, help_text="Nobody grants what they lack.")

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["kind"].widget.explain = lambda value: (
            ("One string, sent as it is.", "") if value == "a" else ("", "It is above your own role.")
        )


@require_safe
def styleguide(request: HttpRequest) -> HttpResponse:
    sheet = SHEET.read_text()
    now = timezone.now()
    context = {
        "colours": list(_colours(sheet)),
        "lengths": list(_lengths(sheet)),
        "form": SampleForm(prefix="empty"),
        "refused": SampleForm({"refused-email": "nobody", "refused-kind": "a"}, prefix="refused"),
        "states": [{"state": code, "state_label": label} for code, label in dict(STATES.values()).items()],
        "environment_colours": Environment.Colour.choices,
        "said": [
            Message(messages.SUCCESS, "The token was saved."),
            Message(messages.INFO, "A rotation is under way."),
            Message(messages.WARNING, "It expires in two days."),
            Message(messages.ERROR, "This could not be done."),
        ],
        "moments": [now, now - timedelta(days=40)],
        "previous_url": "?page=1",
        "next_url": "?page=3",
    }
    return render(request, "styleguide/index.html", context)


def _lengths(sheet: str) -> Iterator[Length]:
    for name, size, unit in LENGTH.findall(sheet):
        pixels = float(size) * (REM if unit == "rem" else 1)
        is_radius = name.startswith("radius")
        yield Length(name, size + unit, TILE if is_radius else pixels, min(pixels, TILE / 2) if is_radius else 0)


def _colours(sheet: str) -> Iterator[Colour]:
    pairs = {name: (light, dark) for name, light, dark in PAIR.findall(sheet)}
    for name, pair in pairs.items():
        beside = BESIDE.get(name, "" if name in GROUNDS else "surface")
        grounds = pairs[beside] if beside else (LIGHT.page, DARK.page)
        light, dark = (
            Half(colour, ground, f"{int(colours.contrast(colour, ground) * 100) / 100:.2f}" if beside else "")
            for colour, ground in zip(pair, grounds, strict=True)
        )
        yield Colour(name, beside, (light, dark))
