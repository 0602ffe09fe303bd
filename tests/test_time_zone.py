"""Moments are shown in the time zone of whoever is signed in, with UTC beside; machines are told UTC alone."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from apitokens.models import ApiToken
from apitokens.pages.words import at_moment
from tests.cast import bearer

LATE = datetime(2031, 7, 1, 23, 30, tzinfo=UTC)


def in_zone(acme, name, role="admin"):
    user = acme.people[role].user
    user.time_zone = name
    user.save(update_fields=["time_zone"])
    return acme.browser(role)


def times(page):
    """{datetime: text} of every moment on the page."""
    return dict(re.findall(r'<time datetime="([^"]+)"[^>]*>\s*([^<]+?)\s*</time>', page.content.decode()))


@pytest.mark.parametrize(
    ("zone", "text"),
    [
        ("", "1 Jul 2031, 23:30 UTC"),
        ("UTC", "1 Jul 2031, 23:30 UTC"),
        ("Europe/Vienna", "2 Jul 2031, 01:30 CEST (1 Jul, 23:30 UTC)"),
        ("America/New_York", "1 Jul 2031, 19:30 EDT (23:30 UTC)"),
        ("Asia/Kolkata", "2 Jul 2031, 05:00 IST (1 Jul, 23:30 UTC)"),
        ("Europe/Atlantis", "1 Jul 2031, 23:30 UTC"),
        ("../../etc/passwd", "1 Jul 2031, 23:30 UTC"),
        ("Europe", "1 Jul 2031, 23:30 UTC"),
    ],
)
def test_a_tokens_page_says_its_end_in_the_readers_zone_and_in_utc(acme, zone, text):
    token = acme.issue("admin").token
    ApiToken.objects.filter(pk=token.pk).update(expires_at=LATE)
    page = in_zone(acme, zone).get(acme.url(f"{token.token_id}/"))
    assert text in page.content.decode()


def test_a_list_marks_the_moment_in_utc_and_shows_the_readers_day(acme):
    token = acme.issue("admin").token
    ApiToken.objects.filter(pk=token.pk).update(expires_at=LATE)
    shown = times(in_zone(acme, "Europe/Vienna").get(acme.url()))
    assert shown["2031-07-01T23:30:00+00:00"] == "2 Jul 2031"
    shown = times(acme.browser("viewer").get(acme.url()))
    assert shown["2031-07-01T23:30:00+00:00"] == "1 Jul 2031"


def test_an_exact_moment_has_both(acme):
    acme.issue("admin")
    shown = times(in_zone(acme, "Asia/Kolkata", "owner").get(f"/t/{acme.tenant.slug}/audit/"))
    assert shown
    for moment, text in shown.items():
        at = datetime.fromisoformat(moment)
        local = at + timedelta(hours=5, minutes=30)
        assert text.endswith(f"{local:%H:%M} IST ({at:%H:%M} UTC)")


def test_what_is_typed_is_read_in_the_zone_that_the_form_names(acme):
    browser = in_zone(acme, "America/New_York")
    assert "In your time zone, America/New_York." in browser.get(acme.url("new/")).content.decode()
    fields = {"name": "Dated", "owner": "tenant", "kind": "access_token", "roles": ["viewer"]}
    soon = (timezone.now() + timedelta(days=9)).replace(hour=12, minute=0, second=0, microsecond=0)
    browser.post(acme.url("new/"), {**acme.form(browser), **fields, "expires_at": f"{soon:%Y-%m-%dT%H:%M}"})
    assert ApiToken.objects.get(name="Dated").expires_at - soon in (timedelta(hours=4), timedelta(hours=5))
    assert "In UTC." in acme.browser("owner").get(acme.url("new/")).content.decode()


def test_the_api_tells_everybody_utc_and_the_zone_ends_with_the_answer(acme, machine):
    issued = acme.issue("admin")
    ApiToken.objects.filter(pk=issued.token.pk).update(expires_at=LATE)
    browser = in_zone(acme, "Asia/Kolkata")
    browser.get(acme.url())
    assert at_moment(LATE) == "1 Jul 2031, 23:30 UTC"
    for answer in (
        browser.get(f"/api/v1/tokens/{issued.token.token_id}?tenant={acme.tenant.id}"),
        machine.get("/api/v1/token/self", headers=bearer(issued.plaintext)),
    ):
        assert answer.json()["expires_at"] == "2031-07-01T23:30:00Z"
