"""The cast and the few things that every test may want."""

import copy
import os
import re
from types import SimpleNamespace

import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.test import Client
from playwright.sync_api import Page

from apitokens import gathering
from tests.ground import Ground, make_world
from tests.server import running_server

# What Chromium says of a page that we answer with such a status on purpose.
ANSWERED_ON_PURPOSE = re.compile(r"Failed to load resource: the server responded with a status of (403|409|422|502) ")
REPORT_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) => {
    console.error(`content policy: ${event.violatedDirective} ${event.blockedURI}`);
});
"""


def pytest_configure():
    """A password's hash is slow on purpose, and nobody guesses here; the servers of tests have it as slow as ever."""
    PBKDF2PasswordHasher.iterations = 1_000


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Who asks for the world finds it made; who does not finds nothing of it."""
    Ground.prepare_for(item)


@pytest.fixture(autouse=True)
def _nothing_gathered(monkeypatch):
    """What other tests have left to be written is not this one's."""
    monkeypatch.setattr(gathering, "_here", gathering._Process())


@pytest.fixture(scope="session")
def ground(django_db_setup, django_db_blocker):
    """The world, made once in a transaction that never ends; each test has its own inside, which is rolled back."""
    with Ground.of_this_process(django_db_blocker) as ground:
        yield ground


@pytest.fixture
def world(ground, db) -> SimpleNamespace:
    """`acme` and `globex` in production, `acme_staging` in the same vendor's staging environment; its `office`."""
    return copy.deepcopy(ground.world) if ground.is_open else make_world()


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
