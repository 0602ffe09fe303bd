"""The styleguide: there for those who work on the pages, and for nobody else."""

import importlib
import re
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client
from django.urls import clear_url_caches

from apitokens.colours import DARK, LIGHT
from config import urls

SHEET = Path(settings.BASE_DIR, "static", "portal.css").read_text()
COLOUR = re.compile(r"#[0-9a-f]{3,8}\b|\b(?:rgb|hsl|oklch)\(")


@pytest.fixture
def in_debug(settings):
    """As after a start with DEBUG=true."""
    settings.DEBUG = True
    _reload()
    yield
    settings.DEBUG = False
    _reload()


def _reload():
    importlib.reload(urls)
    clear_url_caches()


def test_it_is_absent_unless_in_debug(db):
    assert Client().get("/styleguide/").status_code == 404


def test_in_debug_it_shows_every_colour_with_its_contrast_and_every_component(in_debug, db):
    page = Client().get("/styleguide/")
    text = page.content.decode()
    assert page.status_code == 200
    tokens = re.findall(r"--([a-z-]+): light-dark\(#[0-9a-f]{6},", SHEET)
    assert [name for name in tokens if f"<code>--{name}</code>" not in text] == []
    for part in (
        "button-primary", "button-danger", "menu-panel", "notice-error", "badge-usable", "field-error",
        "copy-box-secret", "pager", "empty-icon", "tabs", "disclosure", "segments", "choice", "row-title",
    ):  # fmt: skip
        assert f"{part}" in text, part
    assert "style=" not in text
    assert "<style" not in text


def test_text_of_the_sheet_has_the_contrast_that_it_needs_on_every_ground_it_is_used_on(in_debug, db):
    shown = re.findall(r'fill="#[0-9a-f]{6}">([\d.]+)</text>', Client().get("/styleguide/").content.decode())
    edges = re.search(r"--control-line: light-dark\((\S+), (\S+)\)", SHEET)
    assert edges
    ratios = sorted(float(ratio) for ratio in shown)
    # Two edges of controls need 3 to 1, in light and in dark; everything else is text.
    assert [ratio for ratio in ratios if ratio < 4.5] == ratios[:2]
    assert ratios[0] >= 3


def test_the_grounds_that_accents_are_judged_on_are_those_of_the_sheet():
    for name in ("page", "surface", "sunken"):
        light, dark = re.search(rf"--{name}: light-dark\((#\w+), (#\w+)\);", SHEET).groups()
        assert (light, dark) == (getattr(LIGHT, name), getattr(DARK, name))


def test_colours_have_names_in_one_layer_and_no_values_elsewhere():
    tokens, rest = re.search(r"@layer tokens \{(.*?)\n\}\n(.*)", SHEET, re.S).groups()
    assert COLOUR.search(tokens)
    assert COLOUR.findall(rest) == []
