"""Colours as WCAG 2.2 measures them, written as `#rrggbb`: their contrast, and the nearest shade that has enough."""

import colorsys
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

FORM = re.compile(r"#[0-9a-f]{6}")
WHITE, BLACK = "#ffffff", "#000000"
# Success criteria 1.4.3 (text) and 1.4.11 (what tells a control from the page).
TEXT, CONTROL = 4.5, 3.0
STEPS = 255
# How far a button goes towards black or white under the pointer, and how much of a colour is in its soft ground.
HOVER, SOFT = 0.15, 0.1


@dataclass(frozen=True)
class Scheme:
    """The grounds of our pages in one scheme; the sheet has the same ones."""

    page: str
    surface: str
    sunken: str
    # Where a shade goes to be seen better.
    towards: str


LIGHT = Scheme(page="#faf9f7", surface="#ffffff", sunken="#f4f2ee", towards=BLACK)
DARK = Scheme(page="#141311", surface="#1c1a18", sunken="#252220", towards=WHITE)


@dataclass(frozen=True)
class Shades:
    """One colour as it is used in one scheme: for text and edges, under the pointer, and as a ground."""

    accent: str
    strong: str
    soft: str


@dataclass(frozen=True)
class Palette:
    """What an accent becomes. `fill` is the accent itself, the ground of buttons; the rest is made to be read."""

    fill: str
    fill_strong: str
    on_fill: str
    light: Shades
    dark: Shades


def contrast(one: str, other: str) -> float:
    """From 1 to 21."""
    darker, lighter = sorted([_luminance(one), _luminance(other)])
    return (lighter + 0.05) / (darker + 0.05)


def nearest(colour: str, fits: Callable[[str], bool]) -> str:
    """The shade of the same hue that fits and is least lighter or darker. Something has to fit."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*_fractions(colour))
    shades = (
        _written(colorsys.hls_to_rgb(hue, min(max(lightness + sign * step / STEPS, 0), 1), saturation))
        for step in range(STEPS + 1)
        for sign in (-1, 1)
    )
    return colour if fits(colour) else next(filter(fits, shades))


def mixed(colour: str, other: str, share: float) -> str:
    """With that share of the other."""
    pairs = zip(_fractions(colour), _fractions(other), strict=True)
    return _written([own + (others - own) * share for own, others in pairs])


def is_seen(colour: str, scheme: Scheme) -> bool:
    return contrast(colour, scheme.page) >= CONTROL


def palette(accent: str) -> Palette:
    # One of the two always is enough: no colour is nearer than 4.58 to both.
    on_fill = WHITE if contrast(accent, WHITE) >= TEXT else BLACK
    return Palette(
        fill=accent,
        fill_strong=mixed(accent, BLACK if on_fill == WHITE else WHITE, HOVER),
        on_fill=on_fill,
        light=_shades(accent, LIGHT),
        dark=_shades(accent, DARK),
    )


def _shades(accent: str, scheme: Scheme) -> Shades:
    soft = mixed(scheme.surface, accent, SOFT)
    grounds = (scheme.page, scheme.surface, scheme.sunken, soft)
    readable = nearest(accent, lambda shade: _is_text_on(shade, grounds))
    return Shades(accent=readable, strong=mixed(readable, scheme.towards, HOVER), soft=soft)


def _is_text_on(colour: str, grounds: Iterable[str]) -> bool:
    return all(contrast(colour, ground) >= TEXT for ground in grounds)


def _luminance(colour: str) -> float:
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in _fractions(colour)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _fractions(colour: str) -> tuple[float, float, float]:
    red, green, blue = bytes.fromhex(colour[1:])
    return red / 255, green / 255, blue / 255


def _written(fractions: Iterable[float]) -> str:
    return "#" + bytes(round(value * 255) for value in fractions).hex()
