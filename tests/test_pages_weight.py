"""What a page weighs on its first visit: everything that it is made of, compressed, in bytes and in requests."""

import gzip
import re
from pathlib import Path

import pytest
from django.contrib.staticfiles import finders
from django.test import Client
from django.urls import reverse

from apitokens.governance import branding
from apitokens.setup import hold
from tenants.models import Brand, Permission, Role
from tests.cast import signed_in

KB = 1000
HEAVIEST = 60 * KB
BLOCKING_AT_MOST = 3
COMPRESSED = {"Accept-Encoding": "gzip"}
LINKED = re.compile(r'<link rel="stylesheet" href="([^"]+)"|<script (?:[^>]* )?src="([^"]+)"')
# What a browser has to wait for before it paints.
BLOCKING = re.compile(r'<link rel="stylesheet" href="([^"]+)"|<script (?![^>]*\bdefer\b)[^>]*src="([^"]+)"')


@pytest.fixture
def full(world):
    """A branded environment with as many tokens as a page of the list has, and a matrix of the greatest size."""
    Brand.objects.create(environment=world.production, name="Bolt", accent="#2f6fde")
    permissions = [
        Permission(environment=world.production, key=f"things-of-kind-{number}:write", description="Change them.")
        for number in range(40)
    ]
    Permission.objects.bulk_create(permissions)
    for number in range(8):
        role = Role.objects.create(environment=world.production, key=f"role-{number}", name=f"Role {number}", level=1)
        hold(role, {permission.key for permission in permissions[: 5 * number]})
    for number in range(60):
        world.acme.issue("admin", name=f"Nightly export of the region {number}", roles=["viewer", "member"])
    return world


def list_page(world):
    return world.acme.browser("admin").get(world.acme.url(), headers=COMPRESSED)


def secret_page(world):
    browser = world.acme.browser("admin")
    asked = {"name": "CI", "owner": "tenant", "kind": "client_credentials", "roles": ["viewer"]}
    return browser.post(world.acme.url("new/"), {**world.acme.form(browser), **asked}, headers=COMPRESSED)


def detail_page(world):
    token = world.acme.issue("admin", name="Detail").token
    return world.acme.browser("admin").get(world.acme.url(f"{token.token_id}/"), headers=COMPRESSED)


def new_page(world):
    return world.acme.browser("admin").get(world.acme.url("new/"), headers=COMPRESSED)


def matrix_page(world):
    return signed_in(world.office.people["owner"].user).get(
        reverse("console:roles", args=[world.production.slug]), headers=COMPRESSED
    )


def sign_in_page(world):
    return Client().get("/accounts/login/", headers=COMPRESSED)


PAGES = [list_page, secret_page, detail_page, new_page, matrix_page, sign_in_page]


def weight_of(address):
    """Of a file as it is served: static ones are compressed when they are collected."""
    if address.startswith("/e/"):
        return len(Client().get(address).content)
    return len(gzip.compress(Path(finders.find(address.removeprefix("/static/"))).read_bytes()))


def all_of(pattern, html):
    return ["".join(pair) for pair in pattern.findall(html)]


@pytest.mark.parametrize("open_page", PAGES, ids=lambda open_page: open_page.__name__)
def test_a_page_is_light_on_its_first_visit(full, open_page):
    answer = open_page(full)
    assert (answer.status_code, answer.headers["Content-Encoding"]) == (200, "gzip")
    assert "Accept-Encoding" in answer.headers["Vary"]
    html = gzip.decompress(answer.content).decode()
    weights = {"page": len(answer.content), **{address: weight_of(address) for address in all_of(LINKED, html)}}
    assert sum(weights.values()) <= HEAVIEST, weights
    blocking = all_of(BLOCKING, html)
    assert 1 <= len(blocking) <= BLOCKING_AT_MOST, blocking


def test_a_branded_page_waits_for_two_sheets_and_no_script(full):
    css = branding.stylesheet("#2f6fde").encode()
    sheet = f"/e/{full.production.slug}/brand/{branding.digest(css)}.css"
    assert all_of(BLOCKING, gzip.decompress(list_page(full).content).decode()) == ["/static/portal.css", sheet]


def test_who_can_not_unpack_gets_the_page_as_it_is(acme):
    plain = acme.browser("admin").get(acme.url())
    assert "Content-Encoding" not in plain.headers
    assert "<html" in plain.content.decode()


def test_what_machines_read_is_not_compressed(machine, world):
    for address in (f"/e/{world.production.slug}/jwks.json", "/api/schema/", "/api/v1/token/self"):
        assert "Content-Encoding" not in machine.get(address, headers=COMPRESSED).headers, address


def test_the_same_page_is_of_another_length_each_time(acme):
    """So that its length tells nobody who makes a person's browser ask for it what else is in it."""
    browser = acme.browser("admin")
    lengths = {len(browser.get(acme.url(), headers=COMPRESSED).content) for _ in range(8)}
    assert len(lengths) > 1


@pytest.mark.process
def test_static_files_are_served_compressed_and_for_ever(server):
    visitor = server.machine()
    page = visitor.get("/accounts/login/")
    linked = all_of(LINKED, page.text)
    assert len(linked) >= 2
    assert page.headers["Content-Encoding"] == "gzip"
    for address in linked:
        assert re.fullmatch(r"/static/(.+/)?[\w-]+\.[0-9a-f]{12}\.(css|js)", address)
        served = visitor.get(address)
        assert (served.status_code, served.headers["Content-Encoding"], served.headers["Cache-Control"]) == (
            200, "gzip", "max-age=315360000, public, immutable",
        ), address  # fmt: skip
