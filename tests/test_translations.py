"""Every word that a page shows is in the reader's language: in the templates, in the code and in the catalogs."""

import json
import re
from html.parser import HTMLParser
from urllib.parse import urlencode

import pytest
from django.template.base import Lexer, TokenType
from django.test import Client
from django.utils.translation import trans_real
from django.utils.translation.trans_real import CONTEXT_SEPARATOR

from accounts.forms import time_zones
from apitokens.gathering import TOLD
from apitokens.pages.reasons import REASONS
from audit.services import Refusal
from tenants.policy import PermissionMissing
from tests import catalogs, test_doors
from tests.cast import FORM, everything_stored
from tests.doors import API, CONSOLE, IDS, PAGES
from tests.test_console_doors import fill, filled

# Code to be copied and the reference of the API are English, and who works on these pages reads the style guide.
OF_NO_LANGUAGE = ("portal/connect/", "styleguide/", "api_reference.html", "_reference_fields.html", "_shape.html")
TEMPLATES = {
    name: path
    for path in catalogs.sources()
    if path.suffix != ".py"
    and not (name := path.relative_to(catalogs.ROOT / "templates").as_posix()).startswith(OF_NO_LANGUAGE)
}
# Blocks that hold the name of a class, not words.
OF_CLASSES = {"block width"}
# Attributes that somebody reads or hears; those that scripts show among them.
READ = re.compile(
    r"^(title|alt|placeholder|aria-(label|description|valuetext|roledescription)|label|data-(copied|announce))$"
)
# Names of things, which are called so in every language, and examples of what to type.
NAMES = {
    "Tallystick", "UTC", "curl", "HTTPie", "Python", "JavaScript", "Go", "GitHub Actions", "HashiCorp Vault",
    "Kubernetes", "English", "Deutsch", "العربية", "/jwks.json", "reports:read",
    "https://api.example.com", "https://app.example.com", "https://login.example.com",
}  # fmt: skip
PLAIN = (
    "accounts/login/",
    "accounts/password/reset/",
    "accounts/password/reset/done/",
    "accounts/inactive/",
    "nowhere/",
)
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
LETTERS = re.compile(r"[^\W\d_]{2,}")


class Visible(HTMLParser):
    """The texts of a page, and of a template whose tags were taken out."""

    # What is no language: code, moments, what somebody types.
    SILENT = {"script", "style", "code", "pre", "time", "textarea"}

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.texts, self.silent = [], 0

    def handle_starttag(self, tag, attrs):
        self.silent += tag in self.SILENT
        if tag not in self.SILENT:
            self.texts += [value for name, value in attrs if value and READ.match(name)]

    def handle_endtag(self, tag):
        self.silent -= tag in self.SILENT

    def handle_data(self, data):
        if not self.silent:
            self.texts.append(data)


def parts(text):
    """What stands in it between the signs that part two things."""
    return [part for part in (part.strip(" ()…\n") for part in re.split(" · |^· |…|\n", text)) if LETTERS.search(part)]


def untranslated(template):
    """The texts that stand in the template itself, outside of its translate tags."""
    kept, block = [], ""
    for token in Lexer(template).tokenize():
        name = token.contents.split(maxsplit=1)[0] if token.contents.split() else ""
        if block:
            if token.token_type == TokenType.BLOCK and name == f"end{block}":
                block = ""
        elif token.token_type == TokenType.BLOCK and (
            name in {"blocktranslate", "comment", "verbatim"} or token.contents in OF_CLASSES
        ):
            block = name
        elif token.token_type == TokenType.TEXT:
            kept.append(token.contents)
    page = Visible()
    page.feed("".join(kept))
    page.close()
    return sorted({part for text in page.texts for part in parts(text)} - NAMES)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_hands_every_text_to_translation(name):
    assert untranslated(TEMPLATES[name].read_text(encoding="utf-8")) == []


class Bracketed(trans_real.DjangoTranslation):
    """A language in which every text that is translated at all stands in brackets."""

    def gettext(self, message):
        return f"⟦{message.rpartition(CONTEXT_SEPARATOR)[2]}⟧"

    def ngettext(self, singular, plural, number):
        return self.gettext(singular if number == 1 else plural)


@pytest.fixture
def bracketed(monkeypatch):
    """German is that language for now."""
    monkeypatch.setitem(trans_real._translations, "de", Bracketed("de"))


def outside_brackets(text):
    kept, depth = [], 0
    for character in text:
        depth += character == "⟦"
        if not depth:
            kept.append(character)
        depth -= character == "⟧"
    return "".join(kept)


class Examined:
    """Of every page that is looked at, what it shows in no language: neither translated nor somebody's data."""

    def __init__(self):
        self.found, self.seen = {}, NAMES | {zone.replace("_", " ") for zone in time_zones()}

    def look_at(self, answer, where):
        if answer.streaming or not answer.headers.get("Content-Type", "").startswith("text/html"):
            return
        page = Visible()
        page.feed(answer.content.decode())
        page.close()
        new = set(parts(UUID.sub("", outside_brackets("\n".join(page.texts))))) - self.seen
        if not new:
            return
        self.seen |= new
        stored = "\n".join(row for rows in everything_stored(but=("django_session",)).values() for row in rows)
        self.found.update({text: where for text in new if text not in stored})


@pytest.mark.parametrize("language", catalogs.LANGUAGES)
def test_a_catalog_is_whole_and_right(language):
    assert catalogs.faults(language) == []


def test_every_text_of_the_console_is_translated(world, bracketed):
    browser = world.office.browser("owner")
    browser.cookies["language"] = "de"
    ids = {name: find(world) for name, find in IDS.items()}
    examined = Examined()
    for verb, route, fields, _, _ in CONSOLE:
        path = fill(route, ids)
        if verb == "GET":
            answer = world.office.page("owner", world.production, path, browser)
        else:
            answer = world.office.post("owner", world.production, path, browser, **filled(fields, ids))
        examined.look_at(answer, f"{verb} {route}")
    assert examined.found == {}
    assert_nothing_translated_is_kept()


# Among its doors there is something of each kind in the tenant.
with_something_of_each = test_doors.doors


def test_every_text_of_a_tenants_pages_is_translated(with_something_of_each, bracketed):
    house = with_something_of_each.acme
    browser = house.browser("owner")
    browser.cookies["language"] = "de"
    ids = test_doors._ids(with_something_of_each, house)
    csrf = {"X-CSRFToken": house.form(browser)["csrfmiddlewaretoken"]}
    examined = Examined()
    for verb, route, fields, _ in PAGES:
        body = urlencode(fields, doseq=True)
        answer = browser.generic(verb, f"/{fill(route, ids)}", body, headers=csrf, content_type=FORM)
        examined.look_at(answer, f"{verb} {route}")
    assert examined.found == {}
    assert_nothing_translated_is_kept()


def test_every_text_of_ones_own_pages_and_of_those_for_everybody_is_translated(world, bracketed):
    browser = world.acme.browser("owner")
    for client, paths in (
        (browser, sorted(test_doors.OWN - test_doors.SELF - {"accounts/confirm/"})),
        (Client(), PLAIN),
    ):
        client.cookies["language"] = "de"
        examined = Examined()
        for path in paths:
            examined.look_at(client.get(f"/{path}"), path)
        assert examined.found == {}


def test_the_api_answers_in_english_whoever_asks(with_something_of_each, bracketed):
    """Also when it refuses: every second time with a member that there is not."""
    house = with_something_of_each.acme
    ids = test_doors._ids(with_something_of_each, house)
    browser = house.browser("owner")
    browser.cookies["language"] = "de"
    headers = {"X-CSRFToken": house.form(browser)["csrfmiddlewaretoken"], "Accept-Language": "de"}
    for verb, route, body, _ in API:
        path = f"/{fill(route, ids)}?tenant={house.tenant.id}"
        for sent in ({**(body or {}), "nothing": 1}, body or {}):
            answer = browser.generic(verb, path, json.dumps(sent), headers=headers, content_type="application/json")
            assert "⟦" not in answer.content.decode(), (verb, route)
    assert_nothing_translated_is_kept()


def assert_nothing_translated_is_kept():
    """The record and everything else that is stored is the same, whoever reads what language."""
    stored = everything_stored(but=("django_session",))
    assert [row for rows in stored.values() for row in rows if "⟦" in row] == []


def test_every_code_that_the_record_gives_as_a_reason_has_words():
    def kinds(of):
        return {kind for each in of.__subclasses__() for kind in (each, *kinds(each))}

    codes = {kind.code for kind in kinds(Refusal) if kind.is_denial} | {*TOLD, PermissionMissing.code}
    assert sorted(codes - REASONS.keys()) == []
