"""`manage.py init`, the one way into an empty installation: a vendor, and a link that sets one password, once."""

import re
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from accounts.models import User
from tenants.models import Environment, Vendor, VendorMembership
from tests.cast import everything_stored, send

OWNER = "olga@vendor.example"
PASSWORD = "correct horse battery staple"


def init(**changes):
    out = StringIO()
    asked = {"vendor": "Acorn Analytics", "owner": OWNER, "audience": "https://api.acorn.example", **changes}
    call_command("init", stdout=out, **asked)
    return re.search(r"https?://\S+/accounts/password/reset/key/\S+", out.getvalue())[0]


def choose(link, password):
    browser = Client(enforce_csrf_checks=True)
    page = browser.get(link.removeprefix("http://localhost:8000"), follow=True)
    csrf = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.content.decode())
    form = {"csrfmiddlewaretoken": csrf[1] if csrf else "", "password1": password, "password2": password}
    return browser.post(page.redirect_chain[-1][0] if page.redirect_chain else link, form)


def test_init_makes_a_vendor_and_a_link_that_sets_one_password_once(db):
    link = init()
    owner = User.objects.get()
    assert (Vendor.objects.get().name, Environment.objects.get().issuer) == (
        "Acorn Analytics", "http://localhost:8000/e/acorn-analytics-production",
    )  # fmt: skip
    assert (owner.email, owner.has_usable_password()) == (OWNER, False)
    assert VendorMembership.objects.get(user=owner).role == "owner"
    assert choose(link, PASSWORD).status_code == 302
    owner.refresh_from_db()
    assert owner.check_password(PASSWORD)
    choose(link, f"{PASSWORD} 2")
    owner.refresh_from_db()
    assert owner.check_password(PASSWORD)
    browser = Client(enforce_csrf_checks=True)
    assert send(browser, "/accounts/login/", login=OWNER, password=PASSWORD).status_code == 302
    assert "sessionid" in browser.cookies


def test_the_link_takes_no_weak_password(db):
    link = init()
    assert choose(link, "short").status_code == 200
    assert not User.objects.get().has_usable_password()


def test_the_link_is_stored_nowhere(db):
    key = init().rstrip("/").rsplit("/", 1)[1]
    assert [table for table, rows in everything_stored().items() if key in str(rows)] == []


def test_init_refuses_a_second_time_and_changes_nothing(db):
    init()
    before = everything_stored()
    with pytest.raises(CommandError, match=r"This installation has a vendor already; nothing was changed."):
        init(vendor="Another", owner="other@vendor.example")
    assert everything_stored() == before


@pytest.mark.parametrize("changes", [{"vendor": "!!!"}, {"environment": "???"}])
def test_init_refuses_names_of_which_no_address_can_be_made(db, changes):
    before = everything_stored()
    with pytest.raises(CommandError, match=r"need a letter or a digit"):
        init(**changes)
    assert everything_stored() == before
