"""Every page, in every language, in light and dark: read by everybody, within its policy, and fitting a phone."""

from itertools import groupby

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings

from tests.conftest import ANSWERED_ON_PURPOSE, REPORT_VIOLATIONS
from tests.doors import CONSOLE, PAGES
from tests.tour import NO_PAGES, NOWHERE, Tour, of_acts, of_people, of_the_console, of_the_portal

pytestmark = pytest.mark.browser

PARTS = {
    "people": of_people,
    "portal": lambda _: of_the_portal(),
    "acts": lambda _: of_acts(),
    "console": lambda _: of_the_console(),
}
POLICY = ("default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'")
# As what it describes.
ENGLISH_ALONE = "/api/docs/"
NARROW, WIDE = {"width": 320, "height": 700}, {"width": 1280, "height": 900}
# What is drawn otherwise in the dark; the rest of a page is the same.
IN_THE_DARK = {"runOnly": ["color-contrast", "link-in-text-block"]}


@pytest.fixture(scope="module")
def tour(server):
    tour = Tour(server)
    tour.prepare()
    return tour


@pytest.mark.parametrize("language", [code for code, _ in settings.LANGUAGES])
@pytest.mark.parametrize("part", PARTS)
def test_every_page_can_be_read_by_everybody(browser, tour, part, language):
    complaints = Complaints(tour.server.origin)
    options = {"locale": language, "reduced_motion": "reduce", "viewport": WIDE}
    by_person = sorted(PARTS[part](tour), key=lambda stop: stop.who)
    for who, stops in groupby(by_person, key=lambda stop: stop.who):
        with tour.as_(who, browser, **options) as context:
            page = complaints.watched(context)
            for stop in stops:
                if stop.path != ENGLISH_ALONE or language == settings.LANGUAGE_CODE:
                    tour.go(stop, page)
                    complaints += [f"{stop.name}: {found}" for found in faults(page, language)]
    assert not complaints, "\n".join(complaints)


class Complaints(list):
    """What a browser said, and what an answer failed to say."""

    def __init__(self, origin):
        super().__init__()
        self.origin = origin

    def watched(self, context):
        context.add_init_script(REPORT_VIOLATIONS)
        context.on("console", self.hear)
        context.on("response", self.read)
        return context.new_page()

    def hear(self, message):
        is_expected = ANSWERED_ON_PURPOSE.match(message.text) or message.location["url"].endswith(NOWHERE)
        if message.type in {"error", "warning"} and not is_expected:
            self.append(f"{message.type} on {message.page.url}: {message.text}")

    def read(self, answer):
        if not answer.url.startswith((self.origin, "data:", "blob:")):
            self.append(f"a request to {answer.url}")
        if "text/html" in answer.headers.get("content-type", ""):
            policy = answer.headers.get("content-security-policy", "")
            self += [f"{answer.url} lacks {directive}" for directive in POLICY if directive not in policy]
            if "unsafe" in policy:
                self.append(f"{answer.url} allows what is unsafe")


def faults(page, language):
    page.emulate_media(color_scheme="light")
    page.evaluate(Axe().axe_script)
    yield from judged(page, "light", {})
    page.emulate_media(color_scheme="dark")
    yield from judged(page, "dark", IN_THE_DARK)
    if (said := page.evaluate("document.documentElement.lang")) != language:
        yield f"its language is {said!r}"
    page.set_viewport_size(NARROW)
    if (width := page.evaluate("document.documentElement.scrollWidth")) > NARROW["width"]:
        yield f"is {width} pixels wide"
    page.set_viewport_size(WIDE)


def judged(page, scheme, options):
    found = page.evaluate("(options) => axe.run({...options, resultTypes: ['violations']})", options)
    return [f"{scheme}: {each['id']} at {[node['target'] for node in each['nodes']]}" for each in found["violations"]]


def test_the_tour_leads_to_every_page():
    """Each address with a page is on it: what the lists of doors hold, they hold for the tour."""
    of_tenants = {route for verb, route, *_ in PAGES if verb == "GET"} - NO_PAGES
    of_vendors = {route for verb, route, *_ in CONSOLE if verb == "GET"} - {
        route.removeprefix("console/<slug:slug>/") for route in NO_PAGES
    }
    assert len(of_the_portal()) == len(of_tenants)
    assert len(of_the_console()) == len(of_vendors)
