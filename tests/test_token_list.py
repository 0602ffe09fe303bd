"""The list of tokens: found, narrowed and sorted by what stands in the address; stopped several at a time."""

import re
from datetime import timedelta
from html import unescape
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apitokens.models import ApiToken
from apitokens.orders import name_key
from apitokens.paging import Sort
from apitokens.setup import hold
from audit.models import AuditEvent
from tests.cast import bearer, everything_stored

ROW = re.compile(r'<tr role="row" data-token-id="(\w+)"')
DAY = timedelta(days=1)
SIGNING_IN = ("django_session", "accounts_user", "usersessions_usersession")


def rows(page):
    return ROW.findall(page.content.decode())


def names(page):
    """Of the tokens on the page, in their order."""
    called = dict(ApiToken.objects.values_list("token_id", "name"))
    return [called[token_id] for token_id in rows(page)]


def link(page, rel):
    found = re.search(rf'rel="{rel}" href="([^"]+)"', page.content.decode())
    return unescape(found[1]).removeprefix("http://localhost:8000") if found else None


def change(issued, **fields):
    ApiToken.objects.filter(pk=issued.token.pk).update(**fields)


@pytest.fixture
def many(acme):
    """One of each, so that every filter has something to leave out."""
    now = timezone.now()
    made = {
        "export": acme.issue("admin", name="Nightly export", kind="client_credentials", roles=["member"]),
        "import": acme.issue("owner", name="Nightly import", roles=["viewer"]),
        "laptop": acme.issue("admin", name="Laptop", owner="user"),
        "old": acme.issue("member", name="Old", roles=["viewer"]),
    }
    change(made["export"], last_used_at=now - 3 * DAY, expires_at=now + 40 * DAY)
    change(made["import"], last_used_at=now - DAY, expires_at=None)
    change(made["laptop"], last_used_at=None, expires_at=now + 20 * DAY)
    change(made["old"], disabled_at=now, expires_at=now + 300 * DAY)
    return made


FILTERS = [
    ("", {"export", "import", "laptop", "old"}),
    ("q=nightly", {"export", "import"}),
    ("q=export", set()),
    ("q={id}", {"export"}),
    ("q={last_four}", {"export"}),
    ("state=usable", {"export", "import", "laptop"}),
    ("state=disabled", {"old"}),
    ("kind=client_credentials", {"export"}),
    ("owner=tenant", {"export", "import", "old"}),
    ("owner=user", {"laptop"}),
    ("role=viewer", {"import", "old"}),
    ("creator={owner}", {"import"}),
    ("never_used=true", {"laptop", "old"}),
    ("expiring=true", {"laptop"}),
    ("never_used=true&owner=tenant", {"old"}),
    ("creator={nobody}", set()),
]


@pytest.mark.parametrize(("query", "expected"), FILTERS)
def test_page_and_api_are_narrowed_alike(acme, many, query, expected):
    export = many["export"]
    query = query.format(
        id=export.token.token_id,
        last_four=export.plaintext[-4:],
        owner=acme.people["owner"].user_id,
        nobody=uuid4(),
    )
    wanted = {many[name].token.token_id for name in expected}
    page = acme.browser("admin").get(acme.url(f"?{query}"))
    assert (page.status_code, set(rows(page))) == (200, wanted)
    answer = acme.api("admin", "GET", f"tokens?tenant={acme.tenant.id}&{query}")
    assert (answer.status_code, {each["id"] for each in answer.json()["results"]}) == (200, wanted)


@pytest.mark.parametrize(
    "query", ["state=nonsense", "kind=%00", "role=%00", "creator=nobody", "sort=colour", "sort=%00"]
)
def test_what_makes_no_sense_in_an_address_is_as_if_it_were_not_there(acme, many, query):
    page = acme.browser("admin").get(acme.url(f"?{query}"))
    assert (page.status_code, len(rows(page))) == (200, 4)


def test_every_condition_that_is_asked_for_stands_in_the_form(acme, many):
    creator = acme.people["owner"].user_id
    query = f"q=nightly&state=usable&kind=access_token&owner=tenant&role=viewer&creator={creator}&sort=name"
    page = acme.browser("admin").get(acme.url(f"?{query}")).content.decode()
    for value in ("usable", "access_token", "tenant", "viewer", creator, "name"):
        assert re.search(rf'<option value="{value}" selected>', page), value
    assert 'value="nightly"' in page
    assert re.search(r'<details class="disclosure search-more" open>', page)


@pytest.mark.parametrize(
    ("sent", "address"),
    [
        ({}, ""),
        ({"q": "  nightly "}, "?q=nightly"),
        ({"q": "a&b=c"}, "?q=a%26b%3Dc"),
        ({"state": "usable", "sort": "name", "never_used": "on"}, "?state=usable&never_used=true&sort=name"),
        ({"sort": "-created_at", "kind": "nonsense"}, ""),
    ],
)
def test_what_is_sent_by_the_form_then_stands_in_the_address(acme, sent, address):
    browser = acme.browser("admin")
    answer = browser.post(acme.url(), {**acme.form(browser, ""), **sent})
    assert (answer.status_code, answer.headers["Location"]) == (302, acme.url() + address)


def test_a_name_that_is_too_long_to_be_one_is_refused_and_kept(acme, many):
    browser = acme.browser("admin")
    answer = browser.post(acme.url(), {**acme.form(browser, ""), "q": "n" * 101})
    assert (answer.status_code, "at most 100 characters" in answer.content.decode()) == (422, True)
    assert "n" * 101 in answer.content.decode()


@pytest.mark.parametrize("kind", ["access_token", "client_credentials"])
def test_a_pasted_secret_opens_its_token_and_is_kept_nowhere(acme, globex, kind):
    issued, foreign = acme.issue("admin", name="Mine", kind=kind), globex.issue("admin", name="Theirs", kind=kind)
    browser = acme.browser("admin")
    line = f"2026-01-01 Authorization: Bearer {issued.plaintext} from 10.0.0.1"
    answer = browser.post(acme.url(), {**acme.form(browser, ""), "q": line})
    assert (answer.status_code, answer.headers["Location"]) == (302, acme.url(f"{issued.token.token_id}/"))
    answer = browser.post(acme.url(), {**acme.form(browser, ""), "q": foreign.plaintext})
    page = answer.content.decode()
    assert (answer.status_code, "No token here has this secret" in page, rows(answer)) == (200, True, [])
    for secret in (issued.plaintext, foreign.plaintext):
        assert secret not in page
        assert [table for table, stored in everything_stored().items() if secret in str(stored)] == []


def test_a_secret_in_the_address_is_not_looked_for_nor_said_back(acme):
    issued = acme.issue("admin")
    page = acme.browser("admin").get(acme.url(f"?q={issued.plaintext}"))
    assert (page.status_code, rows(page), "replace it" in page.content.decode()) == (200, [], True)
    assert issued.plaintext not in page.content.decode()


def test_the_people_on_offer_are_those_who_made_what_one_may_see(acme, globex):
    acme.issue("owner", name="Owner's")
    acme.issue("member", name="Member's own", owner="user")
    globex.issue("admin", name="Theirs")
    made_by = r'name="creator".*?</select>'

    def offered(role):
        page = acme.browser(role).get(acme.url()).content.decode()
        return set(re.findall(r'option value="([^"]+)"', re.search(made_by, page, re.S)[0]))

    people = {role: str(acme.people[role].user_id) for role in ("owner", "member")}
    assert offered("admin") == {people["owner"], people["member"]}
    assert offered("viewer") == {people["owner"]}


def test_of_a_stranger_no_name_is_told(acme, globex, many):
    stranger = globex.people["admin"].user
    page = acme.browser("admin").get(acme.url(f"?creator={stranger.id}")).content.decode()
    assert "Somebody else" in page
    assert str(stranger) not in page


# In an order


@pytest.fixture
def sorted_ones(acme):
    """Seven, of which some share a moment and some have none."""
    now = timezone.now()
    used = [None, 1, 2, 2, None, 3, None]
    expires = [10, None, 20, None, 20, 30, None]
    for n, (days_ago, days_left) in enumerate(zip(used, expires, strict=True)):
        name = "cbagfed"[n].upper() if n % 2 else "cbagfed"[n]
        change(
            acme.issue("admin", name=name),
            created_at=now - n // 2 * DAY,
            last_used_at=None if days_ago is None else now - days_ago * DAY,
            expires_at=None if days_left is None else now + days_left * DAY,
        )
    return acme


def in_order(sort):
    """What the order means, told once more in Python."""
    field, turned = sort.removeprefix("-"), sort.startswith("-")
    beginning, end = timezone.now() - 999 * DAY, timezone.now() + 999 * DAY

    def key(token):
        value = {
            "created_at": token.created_at,
            "name": name_key(token.name),
            "last_used_at": token.last_used_at or beginning,
            "expires_at": token.expires_at or end,
        }[field]
        return value, token.pk

    return [token.token_id for token in sorted(ApiToken.objects.all(), key=key, reverse=turned)]


@pytest.mark.parametrize("sort", list(Sort))
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_every_order_is_walked_there_and_back_without_a_gap_or_a_repetition(sorted_ones, sort, size):
    browser = sorted_ones.browser("admin")
    path = f"/api/v1/tokens?tenant={sorted_ones.tenant.id}&sort={sort}&page_size={size}"
    there, pages = [], []
    while path:
        body = browser.get(path).json()
        there += [each["id"] for each in body["results"]]
        pages.append(body)
        path = (body["next"] or "").removeprefix("http://localhost:8000")
    assert there == in_order(sort)
    assert pages[0]["previous"] is None
    back, path = [each["id"] for each in pages[-1]["results"]], pages[-1]["previous"]
    while path:
        body = browser.get(path.removeprefix("http://localhost:8000")).json()
        back = [each["id"] for each in body["results"]] + back
        path = body["previous"]
    assert back == there


@pytest.mark.parametrize("sort", list(Sort))
def test_a_page_goes_on_where_it_ended_though_that_token_is_gone(sorted_ones, sort):
    browser, expected = sorted_ones.browser("admin"), in_order(sort)
    body = browser.get(f"/api/v1/tokens?tenant={sorted_ones.tenant.id}&sort={sort}&page_size=3").json()
    ApiToken.objects.get(token_id=expected[2]).delete()
    following = browser.get(body["next"].removeprefix("http://localhost:8000")).json()
    assert [each["id"] for each in following["results"]] == expected[3:6]


def test_a_position_in_one_order_is_none_in_another(sorted_ones):
    browser = sorted_ones.browser("admin")
    path = f"/api/v1/tokens?tenant={sorted_ones.tenant.id}&page_size=3"
    following = browser.get(f"{path}&sort=name").json()["next"].removeprefix("http://localhost:8000")
    assert browser.get(following).status_code == 200
    for other in ("expires_at", "-name", "created_at"):
        assert browser.get(following.replace("sort=name", f"sort={other}")).status_code == 404


@pytest.mark.parametrize(
    ("query", "status"),
    [("sort=colour", 400), ("sort=-expires_at", 200), ("sort=name&cursor=W10%3D", 404), ("sort=&cursor=", 404)],
)
def test_the_api_says_which_orders_there_are(sorted_ones, query, status):
    answer = sorted_ones.api("admin", "GET", f"tokens?tenant={sorted_ones.tenant.id}&{query}")
    assert answer.status_code == status
    if status == 400:
        assert answer.json()["detail"].startswith("Sort is one of -created_at, created_at, name,")


def test_across_tenants_only_time_sorts(office, world):
    world.acme.issue("admin")
    for sort, status in (("created_at", 200), ("-created_at", 200), ("name", 400), ("-last_used_at", 400)):
        path = f"tokens?all_tenants=true&sort={sort}"
        assert office.api("admin", "GET", path, environment=world.production).status_code == status


def test_the_heads_of_the_columns_sort_and_say_how(sorted_ones):
    browser = sorted_ones.browser("admin")
    page = browser.get(sorted_ones.url("?sort=name&state=usable"))
    assert names(page) == sorted(names(page), key=str.lower)
    text = page.content.decode()
    assert re.findall(r'aria-sort="(\w+)"', text) == ["ascending"]
    heads = [
        unescape(url) for url in re.findall(r'class="head-sorts">\s*<span>[^<]+</span>.*?href="([^"]+)"', text, re.S)
    ]
    assert heads == [
        sorted_ones.url("?state=usable&sort=-name"),
        sorted_ones.url("?state=usable"),
        sorted_ones.url("?state=usable&sort=-last_used_at"),
        sorted_ones.url("?state=usable&sort=expires_at"),
    ]
    turned = browser.get(heads[0])
    assert names(turned) == names(page)[::-1]


def test_the_next_page_keeps_conditions_and_order(acme):
    for n in range(52):
        acme.issue("admin", name=f"Token {n:02}")
    browser = acme.browser("admin")
    first = browser.get(acme.url("?q=token&sort=-name"))
    assert (len(rows(first)), link(first, "prev")) == (50, None)
    second = browser.get(link(first, "next"))
    assert names(first) + names(second) == [f"Token {n:02}" for n in reversed(range(52))]
    assert (link(second, "next"), rows(browser.get(link(second, "prev")))) == (None, rows(first))


@pytest.mark.parametrize(("count", "words"), [(1, "1 token"), (3, "3 tokens"), (4, "More than 3 tokens")])
def test_it_is_counted_how_many_there_are_as_far_as_that_is_cheap(acme, monkeypatch, count, words):
    monkeypatch.setattr("apitokens.pages.tokens.COUNTED", 3)
    for n in range(count):
        acme.issue("admin", name=f"Token {n}")
    page = acme.browser("admin").get(acme.url("?owner=tenant")).content.decode()
    assert re.search(rf">{words}<", page)


@pytest.mark.parametrize(
    "query", ["", "?sort=name", "?sort=-last_used_at&never_used=true", "?state=usable&role=viewer"]
)
def test_a_page_of_fifty_takes_as_many_queries_as_one_of_five(acme, query):
    browser = acme.browser("admin")
    browser.get(acme.url(query))

    def queries():
        with CaptureQueriesContext(connection) as captured:
            assert browser.get(acme.url(query)).status_code == 200
        return len(captured)

    for n in range(5):
        acme.issue("admin", name=f"Few {n}")
    few = queries()
    for n in range(46):
        acme.issue("admin", name=f"Many {n}")
    assert queries() == few


# Empty, and what then is said


@pytest.mark.parametrize(
    ("role", "query", "said", "not_said"),
    [
        ("admin", "", "No API tokens yet", "You may not make tokens here"),
        ("reader", "", "You may not make tokens here", "tokens/new/"),
        ("admin", "?state=disabled", "No token is like this", "No API tokens yet"),
    ],
)
def test_an_empty_list_says_what_to_do(acme, role, query, said, not_said):
    if role == "reader":
        role = "viewer"
        acme.role("viewer").permissions.remove(*acme.role("viewer").permissions.filter(key__endswith=":create"))
    page = acme.browser(role).get(acme.url(query)).content.decode()
    assert said in page
    assert not_said not in page


# Several at once


def tick(house, role, act, *issued, browser=None, **more):
    browser = browser or house.browser(role)
    sent = {"act": act, "token": [each.token.token_id for each in issued], **more}
    return browser.post(house.url("ticked/"), {**house.form(browser, ""), **sent})


def test_what_is_ticked_is_named_before_it_is_disabled(acme, many, machine):
    before = everything_stored(but=SIGNING_IN)
    page = tick(acme, "admin", "disable", many["export"], many["laptop"])
    text = page.content.decode()
    assert (page.status_code, "Disable 2 tokens?" in text) == (200, True)
    assert set(re.findall(r'data-token-id="(\w+)"', text)) == {many[n].token.token_id for n in ("export", "laptop")}
    assert everything_stored(but=SIGNING_IN) == before
    answer = tick(acme, "admin", "disable", many["export"], many["laptop"], step="confirm", query="?owner=tenant")
    assert (answer.status_code, answer.headers["Location"]) == (302, acme.url("?owner=tenant"))
    disabled = ApiToken.objects.filter(disabled_at__isnull=False).values_list("name", flat=True)
    assert set(disabled) == {"Nightly export", "Laptop", "Old"}
    assert AuditEvent.objects.filter(verb="apitoken.disabled", outcome="done").count() == 2
    assert machine.get("/api/v1/token/self", headers=bearer(many["laptop"].plaintext)).status_code == 401


def test_of_those_in_use_it_is_said_and_asked_before_they_are_deleted(acme, many):
    chosen = [many["export"], many["import"], many["old"]]
    text = tick(acme, "admin", "delete", *chosen).content.decode()
    assert "Delete 3 tokens?" in text
    assert "2 of them were used in the last seven days." in text
    assert len(re.findall(r">In use<", text)) == 2
    for known, status in (("", 422), ("3", 422), ("two", 422), (" 2 ", 302)):
        answer = tick(acme, "admin", "delete", *chosen, step="confirm", known=known)
        assert answer.status_code == status, known
        assert ApiToken.objects.count() == (1 if status == 302 else 4)
    assert AuditEvent.objects.filter(verb="apitoken.deleted", outcome="done").count() == 3


def test_what_was_not_used_of_late_is_deleted_without_typing(acme, many):
    change(many["export"], last_used_at=timezone.now() - 8 * DAY)
    text = tick(acme, "admin", "delete", many["export"], many["old"]).content.decode()
    assert ("In use" in text, 'name="known"' in text) == (False, False)
    assert tick(acme, "admin", "delete", many["export"], many["old"], step="confirm").status_code == 302
    assert set(ApiToken.objects.values_list("name", flat=True)) == {"Nightly import", "Laptop"}


def test_one_that_began_to_be_used_meanwhile_is_asked_about(acme, many):
    assert "In use" not in tick(acme, "admin", "delete", many["old"]).content.decode()
    change(many["old"], last_used_at=timezone.now())
    answer = tick(acme, "admin", "delete", many["old"], step="confirm")
    assert (answer.status_code, "It was used in the last seven days." in answer.content.decode()) == (422, True)
    assert ApiToken.objects.count() == 4


@pytest.mark.parametrize("act", ["disable", "delete"])
def test_what_is_refused_says_why_and_the_rest_is_done(acme, many, act):
    """Who may delete the tenant's tokens may not stop other people's own."""
    hold(acme.role("member"), ["members:read"])
    answer = tick(acme, "member", act, many["old"], many["laptop"], step="confirm")
    text = answer.content.decode()
    assert answer.status_code == 422
    assert re.findall(r'data-done="(\w+)"', text) == [many["old"].token.token_id]
    assert re.findall(r'data-refused="(\w+)"', text) == [many["laptop"].token.token_id]
    assert "This needs the permission members:delete." in text
    laptop = ApiToken.objects.get(name="Laptop")
    assert laptop.disabled_at is None
    assert ApiToken.objects.filter(name="Old", disabled_at__isnull=True).exists() is False
    refused = AuditEvent.objects.get(outcome="refused")
    assert (refused.target_id, refused.reason) == (laptop.id, "insufficient_scope")


@pytest.mark.parametrize("act", ["disable", "delete"])
def test_a_stranger_ticks_nothing_and_what_is_gone_is_left_out(acme, globex, many, act):
    foreign = globex.issue("admin", name="Theirs")
    before = everything_stored(but=SIGNING_IN)
    answer = tick(acme, "admin", act, foreign, step="confirm")
    assert (answer.status_code, answer.headers["Location"]) == (302, acme.url())
    assert everything_stored(but=SIGNING_IN) == before
    text = tick(acme, "admin", act, foreign, many["old"]).content.decode()
    assert "1 that you ticked is gone by now, or not yours to see." in text
    assert foreign.token.token_id not in text


@pytest.mark.parametrize("sent", [{}, {"act": "explode"}, {"act": "delete"}, {"act": "delete", "token": "\0"}])
def test_nothing_ticked_or_nothing_meant_leads_back(acme, many, sent):
    browser = acme.browser("admin")
    fields = {**acme.form(browser, ""), "query": "//evil.example\r\nX: y", "list": "all-tokens", **sent}
    answer = browser.post(acme.url("ticked/"), fields)
    assert (answer.status_code, answer.headers["Location"].partition("?")[0]) == (302, acme.url())
    assert browser.get(acme.url("ticked/")).headers["Location"] == acme.url()
    assert ApiToken.objects.count() == 4


def test_who_may_stop_nothing_has_no_boxes(acme, office, world):
    acme.issue("admin")
    acme.role("viewer").permissions.remove(*acme.role("viewer").permissions.filter(key__endswith=":delete"))
    assert 'name="token"' in acme.browser("admin").get(acme.url()).content.decode()
    assert 'name="token"' not in acme.browser("viewer").get(acme.url()).content.decode()
    for role, has_boxes in (("admin", True), ("auditor", False)):
        page = office.page(role, world.production, "all-tokens/").content.decode()
        assert ('name="token"' in page) == has_boxes


@pytest.mark.parametrize(("listed", "back"), [("all-tokens", "all-tokens/"), ("tokens", "tokens/"), ("", "tokens/")])
def test_in_the_console_they_may_be_of_several_tenants(office, world, listed, back):
    made = [world.acme.issue("admin", name="Acme's"), world.globex.issue("admin", name="Globex's")]
    world.acme_staging.issue("admin", name="Staging's")
    ids = [each.token.token_id for each in made]
    answer = office.post(
        "admin", world.production, "tokens/ticked/", act="disable", token=ids, step="confirm", list=listed
    )
    assert (answer.status_code, answer.headers["Location"]) == (302, office.url(world.production, back))
    assert set(ApiToken.objects.filter(disabled_at__isnull=False).values_list("token_id", flat=True)) == set(ids)


def test_the_menu_of_a_row_sends_the_form_that_the_page_has(acme, many):
    """Buttons outside of any form name the one that they send: without it they would do nothing."""
    browser = acme.browser("admin")
    page = browser.get(acme.url("?q=nightly export")).content.decode()
    named, address = re.search(r'<button class="menu-item" form="(\w+)" formaction="([^"]+)">', page).groups()
    form = re.search(rf'<form method="post"[^>]* id="{named}"[^>]*>(.*?)</form>', page, re.S)[1]
    hidden = dict(re.findall(r'name="(\w+)" value="([^"]*)"', form))
    assert browser.post(address, hidden).status_code == 302
    assert ApiToken.objects.get(name="Nightly export").disabled_at is not None
