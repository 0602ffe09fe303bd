"""An environment's brand: who sets it, what it may be, and where its tenants see it."""

import re
import zlib
from base64 import b64encode
from itertools import product
from struct import pack
from unittest.mock import ANY  # noqa: TID251 -- for == over a whole JSON body; nothing is mocked

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone

from apitokens import colours, pictures
from apitokens.colours import DARK, LIGHT
from apitokens.governance import branding
from apitokens.pictures import NoPicture, Picture
from apitokens.setup import NOT_FOR_BACKENDS, hold
from audit.models import AuditEvent
from tenants.models import Brand, Environment
from tests.cast import bearer, everything_stored

OF_A_VISIT = ("django_session", "accounts_user", "usersessions_usersession")
TRACES = (*OF_A_VISIT, "audit_auditevent", "audit_person")
ACCENT = "#2f6fde"


def png(width=64, height=32, *, kinds=(b"IHDR", b"IDAT", b"IEND"), after=b""):
    bodies = {
        b"IHDR": pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0),
        b"IDAT": zlib.compress(b"\0" * (4 * width + 1) * height),
    }
    chunks = [(kind, bodies.get(kind, b"")) for kind in kinds]
    written = [pack(">I", len(body)) + kind + body + pack(">I", zlib.crc32(kind + body)) for kind, body in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(written) + after


def webp(*chunks, after=b""):
    written = [kind + pack("<I", len(body)) + body + b"\0" * (len(body) % 2) for kind, body in chunks]
    content = b"WEBP" + b"".join(written)
    return b"RIFF" + pack("<I", len(content)) + content + after


def lossless(width, height):
    return b"VP8L", b"\x2f" + pack("<I", width - 1 | height - 1 << 14) + b"\x07\x10\x11\x11\x88\x88\xfe\x07\x00"


def lossy(width, height):
    return b"VP8 ", b"\x30\x01\x00\x9d\x01\x2a" + pack("<HH", width, height) + b"\x00" * 8


def extended(width, height, flags=0x10):
    return b"VP8X", bytes([flags, 0, 0, 0]) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")


LOGO = png()


def encoded(logo):
    return b64encode(logo).decode()


def api(office, verb, environment, body=None, role="owner", **headers):
    return office.api(role, verb, f"environments/{environment.slug}/brand", body, **headers)


def branded(office, environment, **fields):
    body = {"name": "Bolt", "accent": ACCENT, "logo": encoded(LOGO), **fields}
    answer = api(office, "PATCH", environment, body)
    assert answer.status_code == 200, answer.content
    return answer


def page_of(acme, path=""):
    return acme.browser("member").get(acme.url(path)).content.decode()


def test_a_brand_is_set_read_and_taken_away_and_the_record_has_no_bytes(world, office):
    assert api(office, "GET", world.production).json() == {"name": "", "accent": "", "logo": None}
    set_to = branded(office, world.production)
    digest = branding.digest(LOGO)
    full = {
        "name": "Bolt",
        "accent": ACCENT,
        "logo": {
            "type": "image/png",
            "digest": digest,
            "url": f"http://localhost:8000/e/{world.production.slug}/logo/{digest}",
        },
    }
    assert set_to.json() == full
    read = api(office, "GET", world.production)
    assert (read.json(), read.headers["ETag"]) == (full, set_to.headers["ETag"])
    assert api(office, "PATCH", world.production, {"accent": ""}).json() == {**full, "accent": ""}
    gone = api(office, "PATCH", world.production, {"name": "", "logo": None})
    assert gone.json() == {"name": "", "accent": "", "logo": None}
    assert Brand.objects.get().logo is None
    told = AuditEvent.objects.filter(verb="brand.changed").order_by("at", "id")
    nothing = {"brand_name": "", "accent": "", "logo": ""}
    assert [(event.target_id, event.before, event.after) for event in told] == [
        (world.production.id, nothing, {"brand_name": "Bolt", "accent": ACCENT, "logo": digest}),
        (world.production.id, ANY, {"brand_name": "Bolt", "accent": "", "logo": digest}),
        (world.production.id, {"brand_name": "Bolt", "accent": "", "logo": digest}, nothing),
    ]
    page = office.page("owner", world.production, "audit/").content.decode()
    assert "Changed the brand of the environment" in page
    assert f"Accent colour none → {ACCENT}" in page


def test_saying_again_what_is_so_is_no_event(world, office):
    branded(office, world.production)
    before = everything_stored(but=OF_A_VISIT)
    branded(office, world.production)
    assert everything_stored(but=OF_A_VISIT) == before


@pytest.mark.parametrize(("role", "status"), [("owner", 200), ("admin", 200), ("auditor", 403)])
def test_who_may_change_the_environment_may_change_its_brand(world, office, role, status):
    answer = api(office, "PATCH", world.production, {"name": "Bolt"}, role=role)
    assert answer.status_code == status
    assert Brand.objects.filter(name="Bolt").count() == (status == 200)
    if status == 403:
        assert answer.json()["permission"] == "environments:create"
        assert AuditEvent.objects.filter(verb="brand.changed", outcome="refused").count() == 1


def test_a_token_of_the_environment_changes_its_brand_and_a_tenants_never_does(world, machine):
    hold(world.acme.role("backend"), NOT_FOR_BACKENDS)
    path = f"/api/v1/environments/{world.production.slug}/brand"
    backend = world.acme.issue_for_environment(name="Backend", kind="access_token")
    tenants = world.acme.issue("owner", roles=["owner"])
    for issued, status in ((backend, 200), (tenants, 403)):
        answer = machine.patch(
            path, {"name": "Bolt"}, content_type="application/json", headers=bearer(issued.plaintext)
        )
        assert answer.status_code == status, answer.content


def test_whoever_saw_an_older_brand_changes_nothing(world, office):
    seen = api(office, "GET", world.production).headers["ETag"]
    branded(office, world.production)
    stale = api(office, "PATCH", world.production, {"name": "Nut"}, **{"If-Match": seen})
    assert (stale.status_code, stale.json()["code"]) == (412, "stale")
    page = office.post("owner", world.production, "settings/brand/", name="Nut", accent="", version=seen.strip('"'))
    assert page.status_code == 422
    assert "Somebody has changed this since you opened it." in page.content.decode()
    assert 'value="Nut"' in page.content.decode()
    assert Brand.objects.get().name == "Bolt"


REFUSED = [
    pytest.param({"name": "x" * 61}, "name", "60 characters", id="name-too-long"),
    pytest.param({"name": "Bo\u202elt"}, "name", "invisible characters", id="name-that-is-not-what-it-looks-like"),
    pytest.param({"logo": LOGO}, "name", "A logo needs a name", id="logo-without-a-name"),
    pytest.param({"accent": "#fff"}, "accent", "six hexadecimal digits", id="accent-too-short"),
    pytest.param({"accent": "#12345g"}, "accent", "six hexadecimal digits", id="accent-is-none"),
    pytest.param({"accent": "red"}, "accent", "six hexadecimal digits", id="accent-has-a-name"),
    pytest.param({"accent": "#ffd400"}, "accent", "1.36 to 1 with the light page", id="accent-too-light"),
    pytest.param({"accent": "#101828"}, "accent", "1.04 to 1 with the dark page", id="accent-too-dark"),
    pytest.param({"name": "B", "logo": b"<svg/>"}, "logo", "neither a PNG nor a WebP", id="logo-is-svg"),
    pytest.param({"name": "B", "logo": b"\xff\xd8\xff"}, "logo", "neither a PNG nor a WebP", id="logo-is-jpeg"),
    pytest.param({"name": "B", "logo": png(15, 64)}, "logo", "this one is 15 × 64", id="logo-too-narrow"),
    pytest.param({"name": "B", "logo": png(64, 1025)}, "logo", "this one is 64 × 1025", id="logo-too-high"),
    pytest.param({"name": "B", "logo": png(after=b"<script>")}, "logo", "something else", id="logo-with-a-tail"),
    pytest.param({"name": "B", "logo": b"\x89PNG\r\n\x1a\n" + b"x" * 32_768}, "logo", "32 KiB", id="logo-too-big"),
]


@pytest.mark.parametrize(("asked", "field", "said"), REFUSED)
def test_what_can_not_be_a_brand_is_refused_at_its_field_by_both_doors(world, office, asked, field, said):
    before = everything_stored(but=TRACES)
    body = {**asked, **({"logo": encoded(asked["logo"])} if "logo" in asked else {})}
    answer = api(office, "PATCH", world.production, body)
    assert (answer.status_code, list(answer.json()["errors"])) == (400, [field]), answer.content
    upload = {"logo": SimpleUploadedFile("logo.png", asked["logo"])} if "logo" in asked else {}
    page = office.post("owner", world.production, "settings/brand/", **{"name": "", "accent": "", **asked, **upload})
    text = page.content.decode()
    assert page.status_code == 422
    assert re.search(rf'href="#id_{field}">[^<]*', text), text
    if not (len(asked.get("name", "")) > 60 or len(asked.get("logo", b"")) > 32_768):
        assert said in answer.json()["errors"][field][0]
    assert said in text or "at most 60" in text
    assert ("Browsers forget which file was chosen" in text) == ("logo" in asked)
    assert everything_stored(but=TRACES) == before


@pytest.mark.parametrize("logo", ["not base64!", "aGk=\n", 7, ["aGk="], "é", "a" * 43_693])
def test_a_logo_that_is_no_base64_is_refused_by_the_api(world, office, logo):
    answer = api(office, "PATCH", world.production, {"name": "Bolt", "logo": logo})
    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["logo"])


def test_the_accent_that_is_suggested_is_taken(world, office):
    for accent in ("#ffd400", "#101828", "#ffffff", "#000000", "#00ff00"):
        refused = api(office, "PATCH", world.production, {"accent": accent})
        (said,) = refused.json()["errors"]["accent"]
        suggested = re.search(r"(#[0-9a-f]{6})\.$", said)[1]
        assert api(office, "PATCH", world.production, {"accent": suggested}).status_code == 200
    assert api(office, "PATCH", world.production, {"accent": ACCENT.upper()}).json()["accent"] == ACCENT


@pytest.mark.parametrize("accent", ["#" + "".join(parts) for parts in product(("00", "5a", "c8", "ff"), repeat=3)])
def test_whatever_accent_passes_everything_that_is_drawn_with_it_can_be_read(accent):
    accent = branding.nearest_accent(accent)
    palette = colours.palette(accent)
    assert palette.fill == accent
    for ground in (palette.fill, palette.fill_strong):
        assert colours.contrast(palette.on_fill, ground) >= 4.5
    for scheme, shades, muted in ((LIGHT, palette.light, "#645e56"), (DARK, palette.dark, "#aaa39a")):
        assert colours.contrast(accent, scheme.page) >= 3
        for ground in (scheme.page, scheme.surface, scheme.sunken, shades.soft):
            assert colours.contrast(shades.accent, ground) >= 4.5
            assert colours.contrast(shades.strong, ground) >= 4.5
        assert colours.contrast(muted, shades.soft) >= 4.5


@pytest.mark.parametrize(
    ("one", "other", "ratio"),
    [("#ffffff", "#000000", 21), ("#777777", "#ffffff", 4.48), ("#1a6650", "#1a6650", 1), ("#0000ff", "#ffffff", 8.59)],
)
def test_contrast_is_that_of_wcag(one, other, ratio):
    assert round(colours.contrast(one, other), 2) == ratio == round(colours.contrast(other, one), 2)


@pytest.mark.parametrize(
    ("data", "picture"),
    [
        (png(64, 32), Picture("image/png", 64, 32)),
        (webp(lossless(300, 200)), Picture("image/webp", 300, 200)),
        (webp(lossy(300, 200)), Picture("image/webp", 300, 200)),
        (webp(extended(40, 30), (b"ALPH", b"x"), lossy(40, 30)), Picture("image/webp", 40, 30)),
        (webp(extended(40, 30), lossless(40, 30), (b"EXIF", b"xyz")), Picture("image/webp", 40, 30)),
    ],
)
def test_a_picture_is_known_by_its_bytes(data, picture):
    assert pictures.read(data) == picture


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        png(kinds=(b"IHDR", b"IEND")),
        png(kinds=(b"IDAT", b"IHDR", b"IEND")),
        png(kinds=(b"IHDR", b"IDAT")),
        png(kinds=(b"IHDR", b"acTL", b"IDAT", b"IEND")),
        png()[:-1],
        png().replace(b"IDAT", b"IDOT"),
        png(after=b"\0"),
        b"RIFF",
        b"RIFF\x04\0\0\0WEBP",
        webp(lossless(40, 30), after=b"\0"),
        webp(lossless(40, 30), (b"EXIF", b"")),
        webp(lossless(40, 30))[:-4],
        webp((b"VP8L", b"\x2e" + b"\0" * 12)),
        webp((b"VP8 ", b"\0" * 16)),
        webp(extended(40, 30)),
        webp(extended(40, 31), lossless(40, 30)),
        webp(extended(40, 30, flags=0x02), lossless(40, 30)),
        webp(extended(40, 30), (b"ANIM", b"\0" * 6), lossless(40, 30)),
        webp((b"VP8X", b"\0" * 9), lossless(1, 1)),
    ],
)
def test_what_is_no_whole_still_picture_is_none(data):
    with pytest.raises(NoPicture):
        pictures.read(data)


def test_a_tenants_pages_wear_the_brand_and_the_console_and_the_start_do_not(world, office, acme):
    branded(office, world.production)
    digest = branding.digest(LOGO)
    page = page_of(acme)
    logo, css = f"/e/{world.production.slug}/logo/{digest}", f"/e/{world.production.slug}/brand/"
    assert re.search(r"<title>API tokens · Bolt</title>", page)
    assert f'<img class="brand-logo" src="{logo}" alt="">' in page
    assert f'<link rel="icon" href="{logo}">' in page
    assert "Tallystick" not in page
    (sheet,) = re.findall(rf'<link rel="stylesheet" href="({css}[0-9a-f]{{16}}\.css)">', page)
    for other in (
        office.page("owner", world.production).content.decode(),
        page_of(world.acme_staging),
        Client().get("/accounts/login/").content.decode(),
    ):
        assert "Tallystick</title>" in other
        assert logo not in other
        assert css not in other
    # A page that refuses is the tenant's too.
    refused = acme.browser("viewer").get(f"/t/{acme.tenant.slug}/audit/")
    assert refused.status_code == 403
    assert "· Bolt</title>" in refused.content.decode()
    served = Client().get(sheet)
    assert (served.status_code, served.headers["Content-Type"]) == (200, "text/css; charset=utf-8")
    assert f"--fill: {ACCENT};" in served.content.decode()


def test_whoever_is_invited_to_a_tenant_sees_whose_it_is(world, office):
    branded(office, world.production)
    sent = office.api(
        "owner",
        "POST",
        f"invitations?tenant={world.acme.tenant.id}",
        {"email": "new@acme.example", "roles": ["viewer"]},
        environment=world.production,
    )
    page = Client().get(sent.json()["link"]).content.decode()
    assert "<title>Invitation to Acme · Bolt</title>" in page


def test_a_brand_of_a_name_alone_has_no_logo_of_ours_beside_it(world, office, acme):
    branded(office, world.production, logo=None, accent="")
    page = page_of(acme)
    assert "<title>API tokens · Bolt</title>" in page
    assert "logo-foil" not in page
    assert "/brand/" not in page
    branded(office, world.production, name="", logo=None)
    page = page_of(acme)
    assert "<title>API tokens · Tallystick</title>" in page
    assert "logo-foil" in page
    assert "/brand/" in page


def test_a_logo_and_its_colours_are_served_for_ever_at_the_digest_of_what_they_are(world, office, acme):
    branded(office, world.production)
    slug, digest = world.production.slug, branding.digest(LOGO)
    sheet = re.search(r'href="(/e/[^"]+\.css)"', page_of(acme))[1]
    logo = f"/e/{slug}/logo/{digest}"
    for address, kind in ((logo, "image/png"), (sheet, "text/css; charset=utf-8")):
        for verb in ("get", "head"):
            served = getattr(Client(), verb)(address)
            assert served.status_code == 200
            headers = ("Content-Type", "Cache-Control", "X-Content-Type-Options", "Vary", "Set-Cookie")
            assert [served.headers.get(name) for name in headers] == [
                kind, "public, max-age=31536000, immutable", "nosniff", None, None,
            ]  # fmt: skip
        assert Client().post(address).status_code == 405
    assert Client().get(logo).content == LOGO
    strange = [
        logo[:-1], logo + "0", logo.replace(digest, "0" * 16), logo.replace(slug, world.staging.slug),
        logo.replace(slug, "never"), sheet.replace(slug, world.staging.slug), sheet.replace(".css", "0.css"),
        f"/e/{slug}/brand/{branding.digest(b'')}.css", f"/e/{world.staging.slug}/brand/{branding.digest(b'')}.css",
    ]  # fmt: skip
    assert {address: Client().get(address).status_code for address in strange} == dict.fromkeys(strange, 404)
    branded(office, world.production, logo=encoded(png(20, 20)), accent="")
    assert [Client().get(address).status_code for address in (logo, sheet)] == [404, 404]


def test_the_logo_of_a_deleted_environment_is_gone(world, office):
    branded(office, world.production)
    Environment.objects.filter(pk=world.production.pk).update(deleted_at=timezone.now())
    assert Client().get(f"/e/{world.production.slug}/logo/{branding.digest(LOGO)}").status_code == 404


def test_the_page_takes_a_logo_shows_it_and_takes_it_away(world, office):
    fields = {"name": "Bolt", "accent": ACCENT, "logo": SimpleUploadedFile("l.txt", LOGO, content_type="text/plain")}
    saved = office.post("owner", world.production, "settings/brand/", **fields)
    assert (saved.status_code, saved.headers["Location"]) == (302, f"/console/{world.production.slug}/settings/brand/")
    assert (Brand.objects.get().logo_type, bytes(Brand.objects.get().logo)) == ("image/png", LOGO)
    page = office.page("owner", world.production, "settings/brand/").content.decode()
    assert f'src="/e/{world.production.slug}/logo/{branding.digest(LOGO)}" alt="Bolt"' in page
    assert "In dark" in page
    # Nothing chosen leaves it as it is.
    office.post("owner", world.production, "settings/brand/", name="Bolt & Nut", accent="")
    assert bytes(Brand.objects.get().logo) == LOGO
    office.post("owner", world.production, "settings/brand/", name="Bolt", accent="", without_logo="on")
    assert Brand.objects.get().logo is None
    assert "without_logo" not in office.page("owner", world.production, "settings/brand/").content.decode()


def test_an_auditor_sees_the_brand_and_no_form(world, office):
    branded(office, world.production)
    page = office.page("auditor", world.production, "settings/brand/").content.decode()
    assert "Bolt" in page
    assert "multipart" not in page


def test_a_page_reads_no_bytes_of_a_logo(world, office, acme, django_assert_max_num_queries):
    branded(office, world.production)
    with django_assert_max_num_queries(40) as counted:
        page_of(acme)
    assert [row["sql"] for row in counted.captured_queries if '"tenants_brand"."logo",' in row["sql"]] == []
