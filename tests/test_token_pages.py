"""A token's own pages: what it would be allowed to do before it is made, what its secret is good for, its use."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from urllib.parse import unquote

import pytest
import time_machine
from django.utils import timezone

from apitokens.models import ApiToken, TokenType, UsageHour
from apitokens.setup import hold
from audit.models import AuditEvent
from tenants.models import Permission
from tests.cast import everything_stored, shown

NOW = datetime(2026, 5, 4, 9, 30, tzinfo=UTC)
VISITS = ("django_session", "accounts_user", "usersessions_usersession")


def words(text):
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", text)).split())


# What it would be allowed to do


def preview(house, role, step="preview", **asked):
    filled = {"owner": "tenant", "kind": "access_token", "step": step, **asked}
    return house.make(role, **{"name": "", **filled})


def listed(answer):
    return re.findall(r"<li><code>([^<]+)</code>", answer.content.decode())


def test_before_anything_is_chosen_it_says_that_it_will_be_said(acme):
    page = acme.browser("admin").get(acme.url("new/")).content.decode()
    assert "Choose who it is for and its roles." in page


@pytest.mark.parametrize(
    ("asked", "permissions"),
    [
        ({"roles": ["viewer"]}, "viewer"),
        ({"roles": ["viewer", "member"]}, "member"),
        ({"owner": "user", "roles": ["viewer"]}, "viewer"),
        ({"owner": "user"}, "admin"),
    ],
)
def test_it_lists_what_the_token_will_have_and_nothing_else(acme, asked, permissions):
    answer = preview(acme, "admin", **asked)
    assert answer.status_code == 200
    said = listed(answer)
    assert acme.make("admin", **asked).status_code == 200
    made = ApiToken.objects.get()
    body = acme.api("admin", "GET", f"tokens/{made.token_id}").json()
    assert sorted(said) == sorted(body["permissions"])
    assert set(said) <= set(acme.role(permissions).permissions.values_list("key", flat=True))
    assert f"{len(said)} permissions, and no others" in answer.content.decode()


def test_what_is_left_out_or_not_for_such_tokens_is_not_among_them(acme):
    Permission.objects.filter(environment=acme.environment, key="reports:write").update(for_tenant_tokens=False)
    everything = set(acme.role("member").permissions.values_list("key", flat=True))
    said = listed(preview(acme, "admin", roles=["member"], without=["reports:read"]))
    assert set(said) == everything - {"reports:read", "reports:write"}


def test_a_look_leaves_no_trace_and_uses_up_nothing(acme):
    browser = acme.browser("admin")
    sent = {**acme.form(browser), "name": "CI", "owner": "tenant", "kind": "access_token", "roles": ["viewer"]}
    before = everything_stored(but=VISITS)
    for step in ("preview", "review"):
        assert browser.post(acme.url("new/"), {**sent, "step": step}).status_code == 200
    assert browser.post(acme.url("new/"), {**sent, "step": "preview", "roles": ["owner"]}).status_code == 200
    assert everything_stored(but=VISITS) == before
    assert "access_token" in shown(browser.post(acme.url("new/"), sent))


@pytest.mark.parametrize(
    ("asked", "because"),
    [
        ({"roles": ["owner"]}, "You can't grant the role Owner"),
        ({"roles": ["nobody"]}, "Unknown role: nobody."),
        ({"roles": ["viewer"], "expires_in": str(31 * 86400)}, "The longest lifetime here is 30 days"),
        ({"roles": ["viewer"], "expires_in": "soon"}, "Expires: Choose one of the offers"),
        ({"roles": ["viewer"], "ip_allowlist": "office"}, "is not an address or a network"),
        ({"roles": ["viewer"], "kind": "nothing"}, "Kind is one of"),
    ],
)
def test_what_can_not_be_made_is_said_with_the_reason_and_is_no_event(acme, asked, because):
    TokenType.objects.filter(environment=acme.environment).update(
        longest_lifetime=30 * 86400, default_lifetime=86400, may_never_expire=False
    )
    answer = preview(acme, "admin", **asked)
    assert answer.status_code == 200
    assert because in unescape(answer.content.decode())
    assert listed(answer) == []
    assert not AuditEvent.objects.filter(outcome="refused").exists()
    made = acme.make("admin", **asked)
    assert made.status_code == 422
    assert because.partition(": ")[2] in unescape(made.content.decode())


ENDINGS = [
    ({"roles": ["viewer"]}, ["goes on when you leave", "What is taken from Viewer later"]),
    ({"owner": "user", "roles": ["viewer"]}, ["when you leave Acme it stops at once", "It may never do more than you"]),
    ({"owner": "user"}, ["It follows you: what you are given later, it has too."]),
    ({"roles": ["viewer"], "kind": "client_credentials"}, ["may accept them for up to 1 hour"]),
    ({"roles": ["viewer"], "expires_in": "never"}, ["It never expires", "It works from anywhere."]),
    ({"roles": ["viewer"], "ip_allowlist": "10.0.0.0/8"}, ["It works only from 10.0.0.0/8."]),
    ({"roles": ["viewer"], "not_before": "2100-01-01T00:00"}, ["It is refused before 1 Jan 2100, 00:00 UTC."]),
]


@pytest.mark.parametrize(("asked", "said"), ENDINGS)
def test_it_says_until_when_and_who_loses_access_when(acme, asked, said):
    text = words(
        preview(
            acme, "admin", **asked, **({} if "not_before" not in asked else {"expires_in": "never"})
        ).content.decode()
    )
    for sentence in said:
        assert sentence in text


def test_picked_permissions_stay_whatever_becomes_of_roles(office, world):
    answer = office.post(
        "admin",
        world.production,
        "tokens/new/",
        name="",
        owner="environment",
        kind="access_token",
        permissions=["tenants:read"],
        step="preview",
    )
    assert listed(answer) == ["tenants:read"]
    assert "It belongs to the environment" in answer.content.decode()
    assert "stay as they are, whatever becomes of the roles" in answer.content.decode()


def test_without_a_script_it_is_reviewed_beside_what_was_typed(acme):
    answer = preview(acme, "admin", step="review", name="Nightly", roles=["viewer"], description="Typed")
    page = answer.content.decode()
    assert answer.status_code == 200
    assert 'value="Nightly"' in page
    assert "Typed" in page
    assert listed(answer)
    nameless = preview(acme, "admin", step="review", roles=["viewer"])
    assert (nameless.status_code, "This field is required." in nameless.content.decode()) == (422, True)
    assert listed(nameless) == listed(answer)
    assert not ApiToken.objects.exists()


def test_the_fragment_is_no_whole_page_and_nobody_keeps_it(acme):
    answer = preview(acme, "admin", roles=["viewer"])
    assert "<html" not in answer.content.decode()
    assert "no-store" in answer.headers["Cache-Control"]


def test_whoever_may_make_none_is_told_nothing_either(acme):
    browser = acme.browser("viewer")
    sent = {**acme.form(browser, ""), "owner": "tenant", "kind": "access_token", "roles": ["viewer"], "step": "preview"}
    answer = browser.post(acme.url("new/"), sent)
    assert (answer.status_code, listed(answer)) == (200, [])
    assert "This needs the permission apitokens:create." in answer.content.decode()


# The secret's page


ENV = {
    "access_token": "# {name} ({token_id})\nACCESS_TOKEN={access_token}\n",
    "client_credentials": (
        "# {name} ({token_id})\n"
        "TOKEN_URL=http://localhost:8000/oauth2/token\n"
        "CLIENT_ID={client_id}\n"
        "CLIENT_SECRET={client_secret}\n"
    ),
}


@pytest.mark.parametrize("kind", ENV)
@pytest.mark.parametrize(
    ("name", "file"), [("Nightly export", "nightly-export.env"), ("Nächtlich & <b>", "nachtlich-b.env")]
)
def test_the_file_to_download_is_in_the_page_itself(acme, kind, name, file):
    answer = acme.make("admin", kind=kind, name=name, roles=["viewer"])
    link = re.search(r'href="data:text/plain;charset=utf-8,([^"]+)" download="([^"]+)"', answer.content.decode())
    assert link[2] == file
    assert unquote(link[1]) == ENV[kind].format(name=name, **shown(answer))


def test_a_name_in_no_latin_script_gives_the_file_its_id(acme):
    answer = acme.make("admin", name="毎晩", roles=["viewer"])
    assert f'download="{shown(answer)["token_id"]}.env"' in answer.content.decode()


@pytest.mark.parametrize("kind", ENV)
def test_every_language_has_its_program_with_the_real_values(acme, kind):
    answer = acme.make("admin", kind=kind, roles=["viewer"])
    page, fields = answer.content.decode(), shown(answer)
    secret = fields.get("access_token") or fields["client_secret"]
    programs = dict(re.findall(r'data-snippet="(\w+)">(.*?)</code>', page, re.S))
    assert set(programs) == {"curl", "python", "javascript", "go", "httpie"}
    for program in programs.values():
        assert secret in program


# Use over time


@pytest.fixture
def used(acme):
    """A token that was used today, yesterday and three weeks ago."""
    with time_machine.travel(NOW, tick=False):
        issued = acme.issue("admin", name="Nightly")

        def count(ago, outcome, number):
            hour = (NOW - ago).replace(minute=0)
            UsageHour.objects.create(
                environment=acme.environment,
                scope_id=acme.tenant.id,
                token_id=issued.token.id,
                hour=hour,
                outcome=outcome,
                count=number,
            )

        count(timedelta(hours=1), "accepted", 1200)
        count(timedelta(hours=1), "rejected", 3)
        count(timedelta(days=1, hours=2), "granted", 40)
        count(timedelta(days=21), "wrong_secret", 7)
        yield issued.token


def chart(acme, token, query="", role="admin"):
    page = acme.browser(role).get(acme.url(f"{token.token_id}/{query}"))
    assert page.status_code == 200
    return page.content.decode()


@pytest.mark.parametrize(
    ("query", "bars", "kinds"),
    [
        ("?use=day", 24, ["accepted", "refused"]),
        ("?use=week", 7, ["issued", "accepted", "refused"]),
        ("", 30, ["wrong", "issued", "accepted", "refused"]),
        ("?use=quarter", 90, ["wrong", "issued", "accepted", "refused"]),
        ("?use=century", 30, ["wrong", "issued", "accepted", "refused"]),
    ],
)
def test_every_hour_or_day_has_a_bar_of_what_happened_in_it(acme, used, query, bars, kinds):
    page = chart(acme, used, query)
    assert page.count('<g class="chart-bar">') == bars
    assert re.findall(r'<rect class="chart-(?!ground)(\w+)"', page) == kinds
    assert "Let in: 1,2" in page


def test_the_drawing_says_in_words_what_it_shows_and_a_table_has_the_same(acme, used):
    page = chart(acme, used)
    assert "Let in: 1,240. Refused: 10. The most at once: Mon 4 May 2026: API requests 1,200, Refused 3." in words(page)
    assert "<title>Tue 14 Apr 2026: nothing</title>" in page
    assert "<title>Mon 13 Apr 2026: Wrong secret 7</title>" in page
    table = re.search(r"<table.*?</table>", page.partition("As a table")[2], re.S)[0]
    lines = [words(row) for row in re.findall(r'<tr role="row">(.*?)</tr>', table, re.S)]
    assert lines == [
        "Day (UTC) JWTs issued API requests Refused Wrong secret",
        "Mon 4 May 2026 0 1,200 3 0",
        "Sun 3 May 2026 40 0 0 0",
        "Mon 13 Apr 2026 0 0 0 7",
    ]


def test_bars_are_as_high_as_their_numbers_and_little_is_still_seen(acme, used):
    page = chart(acme, used, "?use=day")
    drawn = {
        kind: (float(y), float(height))
        for kind, y, height in re.findall(
            r'<rect class="chart-(\w+)" x="\d+" y="([\d.]+)" width="8" height="([\d.]+)"', page
        )
        if kind != "ground"
    }
    # 1,203 under a top of 2,000; three of them are less than a line.
    assert drawn == {"accepted": (40.0, 60.0), "refused": (38.5, 1.5)}
    assert "2,000" in page


def test_the_drawing_needs_no_style_of_its_own(acme, used):
    page = chart(acme, used)
    svg = re.search(r"<figure.*?</figure>", page, re.S)[0]
    assert "style=" not in svg
    assert 'role="img" aria-labelledby="chart-title chart-words"' in svg


def test_one_that_was_not_used_says_what_would_be_counted(acme):
    token = acme.issue("admin").token
    page = chart(acme, token)
    assert ("It was not used in this time." in page, "<figure" in page) == (True, False)


def test_who_may_not_see_use_sees_none(acme, used):
    assert "Use over time" not in chart(acme, used, role="viewer")
    hold(acme.role("viewer"), ["usage:read"])
    assert "Use over time" in chart(acme, used, role="viewer")


def test_a_token_in_use_is_said_to_be_before_it_is_deleted(acme):
    token = acme.issue("admin").token
    page = acme.browser("admin").get(acme.url(f"{token.token_id}/delete/")).content.decode()
    assert "It was used in the last seven days." not in page
    ApiToken.objects.filter(pk=token.pk).update(last_used_at=timezone.now())
    page = acme.browser("admin").get(acme.url(f"{token.token_id}/delete/")).content.decode()
    assert "It was used in the last seven days." in page
