"""An environment's brand: the name, the colour and the logo that its tenants' pages show in place of ours."""

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256

from django.utils.formats import number_format
from django.utils.translation import gettext as _

from apitokens import colours, pictures
from apitokens.changing import changing, check_version, record_change
from apitokens.colours import DARK, LIGHT
from apitokens.governance.environments import locked
from apitokens.orders import InvalidField, clean_name
from apitokens.principals import Principal
from tenants.models import Brand, Environment
from tenants.policy import check_holds

NAME_MAX = 60
LOGO_MAX = 32 * 1024
SIDES = range(16, 1025)
DIGEST_LENGTH = 16


def change(
    *,
    by: Principal,
    environment: Environment,
    at: datetime,
    name: str | None = None,
    accent: str | None = None,
    logo: bytes | None = None,
    expected: str | Sequence[str] | None = None,
) -> Brand:
    """Change what is given and leave the rest; what is given empty is taken away. `accent` is `#rrggbb`."""
    with changing(by, "brand.changed", target_kind="environment", target_id=environment.id):
        by, environment, grantor = locked(by, environment, at)
        check_holds(grantor, "environments:create")
        brand = brand_of(environment)
        before = snapshot(brand)
        check_version(expected, before)
        if name is not None:
            brand.name = _clean_name(name)
        if accent is not None:
            brand.accent = _clean_accent(accent)
        if logo is not None:
            brand.logo, brand.logo_type, brand.logo_digest = _clean_logo(logo)
        if brand.logo_digest and not brand.name:
            raise InvalidField("name", _("A logo needs a name too, for those who can't see it."))
        after = snapshot(brand)
        if after != before:
            brand.save()
            record_change(
                by, "brand.changed", target_kind="environment", target_id=environment.id, before=before, after=after
            )
    return brand


def brand_of(environment: Environment) -> Brand:
    """As it is stored, or an empty one. Without the bytes of its logo until they are asked for."""
    stored = Brand.objects.filter(environment=environment).defer("logo").first()
    return stored or Brand(environment=environment)


def snapshot(brand: Brand) -> dict[str, object]:
    """What an ETag and a form's version stand for, and what an event tells. The logo by its digest."""
    return {"brand_name": brand.name, "accent": brand.accent, "logo": brand.logo_digest}


def stylesheet(accent: str) -> str:
    """The accent as our sheet's own properties, in the layer in which they are."""
    palette = colours.palette(accent)
    light, dark = palette.light, palette.dark
    properties = {
        "accent": f"light-dark({light.accent}, {dark.accent})",
        "accent-strong": f"light-dark({light.strong}, {dark.strong})",
        "accent-soft": f"light-dark({light.soft}, {dark.soft})",
        "fill": palette.fill,
        "fill-strong": palette.fill_strong,
        "on-fill": palette.on_fill,
    }
    lines = "".join(f"    --{name}: {value};\n" for name, value in properties.items())
    return f"@layer tokens {{\n  :root {{\n{lines}  }}\n}}\n"


def digest(content: bytes) -> str:
    return sha256(content).hexdigest()[:DIGEST_LENGTH]


def nearest_accent(accent: str) -> str:
    """Itself, or the nearest shade of it that can be seen on the pages in light and in dark."""
    return colours.nearest(accent, lambda shade: all(colours.is_seen(shade, scheme) for scheme in (LIGHT, DARK)))


def _clean_name(name: str) -> str:
    if not name.strip():
        return ""
    name = clean_name(name)
    if len(name) > NAME_MAX:
        raise InvalidField(
            "name",
            _("A brand's name has at most %(most)s characters; this one has %(length)s.")
            % {"most": NAME_MAX, "length": len(name)},
        )
    return name


def _clean_accent(accent: str) -> str:
    accent = accent.strip().lower()
    if not accent:
        return ""
    if not colours.FORM.fullmatch(accent):
        raise InvalidField("accent", _("Write the colour as # and six hexadecimal digits, such as #1a6650."))
    for scheme, text in (
        (
            LIGHT,
            _(
                "%(accent)s has a contrast of %(ratio)s to 1 with the light page, and buttons need %(least)s to 1 to "
                "be seen. The nearest shade that has it on both pages is %(nearest)s."
            ),
        ),
        (
            DARK,
            _(
                "%(accent)s has a contrast of %(ratio)s to 1 with the dark page, and buttons need %(least)s to 1 to "
                "be seen. The nearest shade that has it on both pages is %(nearest)s."
            ),
        ),
    ):
        if not colours.is_seen(accent, scheme):
            # Cut, not rounded: what is said to be too little must not read as enough.
            ratio = int(colours.contrast(accent, scheme.page) * 100) / 100
            raise InvalidField(
                "accent",
                text
                % {
                    "accent": accent,
                    "ratio": number_format(ratio, 2),
                    "least": number_format(f"{colours.CONTROL:g}"),
                    "nearest": nearest_accent(accent),
                },
            )
    return accent


def _clean_logo(logo: bytes) -> tuple[bytes | None, str, str]:
    """The bytes, their type and their digest."""
    if not logo:
        return None, "", ""
    if len(logo) > LOGO_MAX:
        raise InvalidField(
            "logo",
            _("A logo has at most %(most)s KiB; this one has %(size)s.")
            % {"most": LOGO_MAX // 1024, "size": -(-len(logo) // 1024)},
        )
    try:
        picture = pictures.read(logo)
    except pictures.NoPicture as error:
        raise InvalidField("logo", str(error)) from error
    if picture.width not in SIDES or picture.height not in SIDES:
        raise InvalidField(
            "logo",
            _("A logo is %(least)s to %(most)s pixels wide and high; this one is %(width)s × %(height)s.")
            % {"least": SIDES[0], "most": SIDES[-1], "width": picture.width, "height": picture.height},
        )
    return logo, picture.type, digest(logo)
