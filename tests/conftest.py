"""The cast and the few things that every test may want."""

import os
from types import SimpleNamespace

import pytest
from django.test import Client

from tests.cast import make_environment, make_house
from tests.factories import VendorFactory
from tests.server import running_server


@pytest.fixture
def world(db):
    """`acme` and `globex` in production, `acme_staging` in the same vendor's staging environment."""
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
    )


@pytest.fixture
def acme(world):
    return world.acme


@pytest.fixture
def globex(world):
    return world.globex


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
