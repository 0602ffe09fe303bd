"""The cast and the few things that every test may want."""

import os
import re
from types import SimpleNamespace

import pytest
from django.test import Client
from playwright.sync_api import Page

from apitokens import gathering
from tests.cast import make_environment, make_house, make_office
from tests.factories import VendorFactory
from tests.server import running_server

# What Chromium says of a page that we answer with such a status on purpose.
ANSWERED_ON_PURPOSE = re.compile(r"Failed to load resource: the server responded with a status of (403|409|422) ")
REPORT_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) => {
    console.error(`content policy: ${event.violatedDirective} ${event.blockedURI}`);
});
"""


@pytest.fixture(autouse=True)
def _nothing_gathered(monkeypatch):
    """What other tests have left to be written is not this one's."""
    monkeypatch.setattr(gathering, "_here", gathering._Process())


@pytest.fixture
def world(db):
    """`acme` and `globex` in production, `acme_staging` in the same vendor's staging environment; its `office`."""
    vendor = VendorFactory()
    production = make_environment(vendor=vendor, name="Production")
    staging = make_environment(vendor=vendor, name="Staging")
    return SimpleNamespace(
        vendor=vendor,
        production=production,
        staging=staging,
        acme=make_house(production, "Acme"),
        globex=make_house(production, "Globex"),
        acme_staging=make_house(staging, "Acme"),
        office=make_office(vendor),
    )


@pytest.fixture
def acme(world):
    return world.acme


@pytest.fixture
def globex(world):
    return world.globex


@pytest.fixture
def office(world):
    return world.office


@pytest.fixture
def machine():
    """A client without cookies: what the vendor's customers' programs are."""
    return Client(enforce_csrf_checks=True)


@pytest.fixture(scope="session")
def server():
    """The product in processes of its own, with its demo: started once a run, when the first test asks for it."""
    with running_server() as running:
        yield running


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args):
    """The Chromium that the runner found, kept from talking to anybody but us."""
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
    arguments = {**browser_type_launch_args, "args": ["--no-sandbox", "--disable-gpu", "--disable-quic", *quiet]}
    if chromium := os.environ.get("CHROMIUM"):
        arguments["executable_path"] = chromium
    return arguments


@pytest.fixture
def browse(browser, server):
    """Opens a page in a browser of its own; afterwards no visited page may have had anything to complain of."""
    contexts, complaints = [], []

    def note(message):
        if message.type in ("error", "warning") and not ANSWERED_ON_PURPOSE.match(message.text):
            complaints.append(f"{message.type} on {message.page.url}: {message.text}")

    def go(request):
        if not request.url.startswith((server.origin, "data:")):
            complaints.append(f"a request to {request.url}")

    def open_browser(**options) -> Page:
        context = browser.new_context(base_url=server.origin, locale="en-GB", **options)
        contexts.append(context)
        context.set_default_timeout(10_000)
        context.on("console", note)
        context.on("weberror", lambda error: complaints.append(f"exception: {error.error}"))
        context.on("request", go)
        if options.get("java_script_enabled", True):
            context.add_init_script(REPORT_VIOLATIONS)
        return context.new_page()

    yield open_browser
    for context in contexts:
        context.close()
    assert complaints == []
