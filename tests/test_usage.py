"""How often tokens are used: the counts of `GET /api/v1/usage`, and the pages that add them up."""

import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from urllib.parse import quote, urlsplit
from uuid import uuid4

import pytest
import time_machine
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apitokens import counting, gathering, principals, services
from apitokens.models import UsageHour
from apitokens.setup import hold
from tenants.models import Tenant
from tests.cast import bearer, jwt_of

NOW = datetime(2026, 5, 4, 10, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def _clock():
    with time_machine.travel(NOW, tick=False):
        yield


def count(token, outcome, number=1, *, tenant="its own", ago=timedelta(0)):
    tenant = token.tenant if tenant == "its own" else tenant
    hour = (NOW - ago).replace(minute=0)
    UsageHour.objects.create(
        environment_id=token.environment_id, scope_id=tenant.id if tenant else token.environment_id, token_id=token.id,
        hour=hour, outcome=outcome, count=number,
    )  # fmt: skip


@pytest.fixture
def lived(world):
    """Some use in each place: of a tenant's token, of one that is gone, of the vendor's own, here and elsewhere."""
    acme, globex = world.acme, world.globex
    nightly, gone = acme.issue("admin", name="Nightly"), acme.issue("admin", name="Gone")
    theirs, staging = globex.issue("admin", name="Theirs"), world.acme_staging.issue("admin", name="Staging")
    backend = acme.issue_for_environment(name="Backend", kind="access_token")
    count(nightly.token, "accepted", 1200)
    count(nightly.token, "unusable", 2)
    count(nightly.token, "accepted", 5, ago=26 * HOUR)
    count(gone.token, "wrong_secret", 7, ago=HOUR)
    count(theirs.token, "granted", 30)
    count(staging.token, "granted", 99)
    count(backend.token, "introspected", 11)
    count(backend.token, "granted", 3, tenant=acme.tenant)
    uuids = {each.token.name: str(each.token.id) for each in (nightly, gone, theirs, backend)}
    path = f"tokens/{gone.token.token_id}?tenant={acme.tenant.id}"
    assert acme.api("admin", "DELETE", path).status_code == 204
    return SimpleNamespace(**vars(world), nightly=nightly, gone=gone, theirs=theirs, backend=backend, uuids=uuids)


def usage(lived, asked="", person="admin"):
    return lived.acme.api(person, "GET", f"usage?tenant={lived.acme.tenant.id}{asked}")


def line(lived, name, counts, *, began="2026-05-04T10:00:00Z", is_named=True):
    """What a use in Acme reads like."""
    issued = {"Nightly": lived.nightly, "Backend": lived.backend}.get(name)
    return {
        "began": began,
        "tenant": str(lived.acme.tenant.id),
        "token": issued.token.token_id if issued and is_named else None,
        "token_uuid": lived.uuids[name],
        "counts": counts,
    }


def in_order(lines):
    return sorted(lines, key=lambda line: (line["began"], line["token_uuid"]))


def test_a_tenant_is_told_the_last_day_by_hour_token_and_outcome(lived):
    answer = usage(lived)
    assert answer.status_code == 200
    body = answer.json()
    assert (body["next"], body["previous"]) == (None, None)
    assert in_order(body["results"]) == in_order(
        [
            line(lived, "Nightly", {"accepted": 1200, "unusable": 2}),
            line(lived, "Backend", {"granted": 3}, is_named=False),
            line(lived, "Gone", {"wrong_secret": 7}, began="2026-05-04T09:00:00Z"),
        ]
    )
    assert [each["began"] for each in body["results"]] == ["2026-05-04T10:00:00Z"] * 2 + ["2026-05-04T09:00:00Z"]


def test_days_are_whole_and_in_utc(lived):
    lines = usage(lived, "&interval=day&since=2026-05-03T23:59:00Z&until=2026-05-04T00:00:01Z").json()["results"]
    of_nightly = [each for each in lines if each["token"] == lived.nightly.token.token_id]
    assert of_nightly == [
        line(lived, "Nightly", {"accepted": 1200, "unusable": 2}, began="2026-05-04T00:00:00Z"),
        line(lived, "Nightly", {"accepted": 5}, began="2026-05-03T00:00:00Z"),
    ]


def test_of_one_token_alone(lived):
    lines = usage(lived, f"&token={lived.nightly.token.token_id}&since=2026-05-03T00:00:00Z").json()["results"]
    assert lines == [
        line(lived, "Nightly", {"accepted": 1200, "unusable": 2}),
        line(lived, "Nightly", {"accepted": 5}, began="2026-05-03T08:00:00Z"),
    ]


def test_each_kind_of_caller_reads_its_own_place_and_no_more(lived, machine):
    """R2: a tenant's token its tenant, the environment's the environment or the tenant it names; nobody another."""
    acme, globex = lived.acme, lived.globex
    reader = acme.issue("owner", name="Reader", permissions=["usage:read"]).plaintext
    client = acme.issue_for_environment(name="Bound", kind="client_credentials")
    bound = jwt_of(machine, client, tenant=str(globex.tenant.id))
    powerless = acme.issue("owner", name="No reader", permissions=["apitokens:read"]).plaintext
    backend = lived.backend.plaintext
    in_acme, in_globex = {"Nightly", "Gone", "Backend"}, {"Theirs"}
    table = [
        (reader, "", 200, in_acme),
        (reader, f"?tenant={globex.tenant.id}", 404, None),
        (reader, f"?token={lived.theirs.token.token_id}", 404, None),
        (bound, "", 200, in_globex),
        (bound, f"?tenant={acme.tenant.id}", 404, None),
        (powerless, "", 403, None),
        (backend, "", 200, in_acme | in_globex),
        (backend, f"?tenant={globex.tenant.external_id}", 200, in_globex),
        (backend, f"?tenant={lived.acme_staging.tenant.id}", 404, None),
        (backend, f"?token={lived.backend.token.token_id}", 200, {"Backend"}),
    ]
    names = {uuid: name for name, uuid in lived.uuids.items()}
    for credential, asked, status, seen in table:
        answer = machine.get(f"/api/v1/usage{asked}", headers=bearer(credential))
        assert answer.status_code == status, (asked, answer.content)
        if seen is not None:
            assert {names[each["token_uuid"]] for each in answer.json()["results"]} == seen, asked
        if status == 403:
            assert answer.json()["permission"] == "usage:read"


def test_who_may_not_see_tokens_is_told_how_often_and_not_which(lived, machine):
    reader = lived.acme.issue("owner", name="Reader", permissions=["usage:read"]).plaintext
    lines = machine.get("/api/v1/usage", headers=bearer(reader)).json()["results"]
    assert {each["token"] for each in lines} == {None}


def test_the_vendor_reads_of_a_tenant_that_is_stopped(lived, office):
    Tenant.objects.filter(pk=lived.acme.tenant.pk).update(suspended_at=NOW)
    answer = office.api("auditor", "GET", f"usage?tenant={lived.acme.tenant.id}", environment=lived.production)
    assert len(answer.json()["results"]) == 3


@pytest.mark.parametrize(("person", "status"), [("viewer", 403), ("member", 403), ("admin", 200), ("owner", 200)])
@pytest.mark.parametrize("by", ["page", "api"])
def test_it_is_for_those_who_hold_its_permission(lived, person, status, by):
    house = lived.acme
    page = f"/t/{house.tenant.slug}/usage/"
    answer = usage(lived, person=person) if by == "api" else house.browser(person).get(page)
    assert answer.status_code == status
    if status == 403:
        assert "usage:read" in answer.content.decode()


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        pytest.param("interval=minute", "interval", id="interval"),
        pytest.param("since=yesterday", "since", id="since"),
        pytest.param("until=2026-05-01T00:00:00Z&since=2026-05-02T00:00:00Z", "until", id="end-before-beginning"),
        pytest.param("since=2026-04-20T00:00:00Z", "since", id="too-many-hours"),
        pytest.param("interval=day&since=2026-01-01T00:00:00Z", "since", id="too-many-days"),
        pytest.param("until=9999-12-31T23:59:59Z", "until", id="end-of-the-calendar"),
        pytest.param("page_size=0", "page_size", id="page-size"),
        pytest.param("token=0123456789012", "token", id="token"),
    ],
)
def test_a_filter_that_makes_no_sense_is_named(lived, asked, field):
    answer = usage(lived, f"&{asked}")
    assert (answer.status_code, list(answer.json()["errors"])) == (400, [field])


@pytest.mark.parametrize("cursor", ["x", "AAAA", "MjAyNi0wNS0wNA==", "not base64!"])
def test_a_cursor_that_was_never_ours_is_404(lived, cursor):
    assert usage(lived, f"&cursor={quote(cursor)}").status_code == 404


@pytest.mark.parametrize("interval", ["hour", "day"])
def test_pages_follow_each_other_and_miss_nothing(lived, machine, interval):
    """Many lines of one hour; nothing that is counted between two pages comes twice or moves the others."""
    tokens = [lived.acme.issue("admin", name=f"Token {n}").token for n in range(7)]
    for token in tokens:
        for hours in range(3):
            count(token, "accepted", 1, ago=hours * HOUR)
            count(token, "granted", 1, ago=hours * HOUR)
    whole = machine.get(
        f"/api/v1/usage?page_size=100&interval={interval}", headers=bearer(lived.backend.plaintext)
    ).json()
    assert whole["next"] is None
    walked, url = [], f"http://localhost/api/v1/usage?page_size=4&interval={interval}"
    while url:
        parts = urlsplit(url)
        page = machine.get(f"{parts.path}?{parts.query}", headers=bearer(lived.backend.plaintext)).json()
        assert len(page["results"]) <= 4
        walked += page["results"]
        url = page["next"]
        gathering.flush(at=NOW)
    backend = lived.uuids["Backend"]
    assert [each for each in walked if each["token_uuid"] != backend] == [
        each for each in whole["results"] if each["token_uuid"] != backend
    ]
    assert len(walked) == len({(each["began"], each["token_uuid"], each["tenant"]) for each in walked})


def test_what_was_counted_over_thirteen_months_ago_is_erased(lived):
    token = lived.nightly.token
    before = UsageHour.objects.count()
    for ago in (counting.KEPT - HOUR, counting.KEPT + HOUR):
        count(token, "granted", ago=ago)
    call_command("worker", once=True)
    assert UsageHour.objects.count() == before + 1


def tables(page):
    """{caption: [[cells]]} of a page."""
    text = page.content.decode()
    found = {}
    for table in re.findall(r"<table.*?</table>", text, re.S):
        caption = re.search(r"<caption[^>]*>([^<]*)<", table)[1]
        rows = re.findall(r'<tr role="row">(.*?)</tr>', table, re.S)[1:]
        found[caption] = [
            [" ".join(re.sub(r"<[^>]+>", " ", cell).split()) for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.S)]
            for row in rows
        ]
    return found


def test_the_tenants_page_adds_up_by_day_and_token(lived):
    acme = lived.acme
    page = acme.browser("admin").get(f"/t/{acme.tenant.slug}/usage/")
    assert page.status_code == 200
    found = tables(page)
    assert list(found) == ["By day", "By token"]
    assert found["By day"][:3] == [
        ["Mon 4 May 2026", "3", "1,200", "0", "2", "7"],
        ["Sun 3 May 2026", "0", "5", "0", "0", "0"],
        ["Sat 2 May 2026", "0", "0", "0", "0", "0"],
    ]
    assert len(found["By day"]) == 7
    assert found["By token"] == [
        [f"Nightly {lived.nightly.token.token_id}", "0", "1,205", "0", "2", "0"],
        ["Gone Deleted", "0", "0", "0", "0", "7"],
        ["A token that is not yours to see", "3", "0", "0", "0", "0"],
    ]
    assert f'href="{acme.url(lived.nightly.token.token_id)}/"' in page.content.decode()


SEEN = {
    # The owner of what is gone: who is told its name, of an admin, a member and the vendor's auditor.
    "tenant": {"admin", "member", "auditor"},
    "user": {"admin", "auditor"},
    "environment": {"auditor"},
}


@pytest.mark.parametrize("owner", SEEN)
def test_what_is_gone_is_named_to_those_who_could_have_seen_it(lived, office, owner):
    acme = lived.acme
    hold(acme.role("member"), ["usage:read"])
    asked = {"name": "Departed"}
    made = acme.issue_for_environment(**asked) if owner == "environment" else acme.issue("admin", owner=owner, **asked)
    count(made.token, "granted", 500, tenant=acme.tenant)
    services.delete(by=principals.system(acme.environment), token=made.token, at=NOW)
    path = f"/t/{acme.tenant.slug}/usage/"
    pages = {person: acme.browser(person).get(path) for person in ("admin", "member")}
    pages["auditor"] = office.page("auditor", lived.production, "usage/")
    names = {person: {row[0] for row in tables(page)["By token"] if row[1] == "500"} for person, page in pages.items()}
    told, untold = {"Departed Deleted"}, {"A token that is not yours to see"}
    assert names == {person: told if person in SEEN[owner] else untold for person in pages}


def test_the_consoles_page_adds_up_by_tenant_too_and_narrows_to_one(lived, office):
    page = office.page("auditor", lived.production, "usage/")
    found = tables(page)
    assert list(found) == ["By day", "By tenant", "By token"]
    assert found["By tenant"] == [
        [f"Acme {lived.acme.tenant.slug}", "3", "1,205", "0", "2", "7"],
        [f"Globex {lived.globex.tenant.slug}", "30", "0", "0", "0", "0"],
        ["In no tenant For the whole environment", "0", "0", "11", "0", "0"],
    ]
    assert found["By token"][2] == [f"Backend {lived.backend.token.token_id}", "3", "0", "11", "0", "0"]
    narrowed = office.page("auditor", lived.production, f"usage/?tenant={lived.globex.tenant.id}")
    assert list(tables(narrowed)) == ["By day", "By token"]
    assert "in Globex" in narrowed.content.decode()
    for stranger in (lived.acme_staging.tenant.id, uuid4(), "x"):
        assert office.page("auditor", lived.production, f"usage/?tenant={stranger}").status_code == 404


def test_the_greatest_are_named_and_the_others_added_up(lived):
    acme = lived.acme
    for n in range(25):
        count(acme.issue("admin", name=f"Token {n:02}").token, "granted", 100 + n)
    rows = tables(acme.browser("admin").get(f"/t/{acme.tenant.slug}/usage/"))["By token"]
    assert len(rows) == 21
    # 19 of 100 and more beside Nightly, so six of them and all that is less are the others.
    assert rows[-1] == ["All others", str(sum(range(100, 106)) + 3), "0", "0", "0", "7"]


def test_a_page_without_use_says_what_would_be_counted(acme):
    page = acme.browser("admin").get(f"/t/{acme.tenant.slug}/usage/").content.decode()
    assert "No token was used in these days" in page
    assert "<table" not in page


@pytest.mark.parametrize(("asked", "days"), [("", 7), ("?days=30", 30), ("?days=90", 90), ("?days=4000", 7)])
def test_how_many_days_is_chosen_from_a_few(lived, asked, days):
    acme = lived.acme
    page = acme.browser("admin").get(f"/t/{acme.tenant.slug}/usage/{asked}")
    assert len(tables(page)["By day"]) == days
    assert re.search(rf'aria-current="true">{days} days', page.content.decode())


def test_pages_take_as_many_queries_for_many_tokens_as_for_few(lived, office):
    acme = lived.acme
    browsers = {
        f"/t/{acme.tenant.slug}/usage/": acme.browser("admin"),
        f"/console/{acme.environment.slug}/usage/": office.browser("owner"),
    }

    def queries():
        found = []
        for address, browser in browsers.items():
            browser.get(address)
            with CaptureQueriesContext(connection) as captured:
                browser.get(address)
            found.append(len(captured))
        return found

    few = queries()
    for n in range(30):
        count(acme.issue("admin", name=f"Token {n:02}").token, "granted", 100 + n)
    assert [more <= before for more, before in zip(queries(), few, strict=True)] == [True, True]


def test_a_use_is_on_the_page_after_the_next_round(lived, machine):
    assert machine.get("/api/v1/token/self", headers=bearer(lived.nightly.plaintext)).status_code == 200
    gathering.flush(at=timezone.now())
    lines = usage(lived, f"&token={lived.nightly.token.token_id}").json()["results"]
    assert lines[0]["counts"] == {"accepted": 1201, "unusable": 2}


@pytest.mark.parametrize(
    ("person", "is_shown"), [pytest.param("admin", True, id="admin"), pytest.param("viewer", False, id="viewer")]
)
def test_the_page_of_a_token_has_its_last_seven_days(lived, person, is_shown):
    acme = lived.acme
    found = tables(acme.browser(person).get(acme.url(f"{lived.nightly.token.token_id}/")))
    days = found.get("By day")
    if not is_shown:
        assert days is None
        return
    # Requests to the API and what was refused, of the days on which there was either.
    assert days == [["Mon 4 May 2026", "1,200", "2"], ["Sun 3 May 2026", "5", "0"]]


def test_the_page_of_a_token_that_was_not_used_has_no_empty_table(acme):
    token = acme.issue("admin").token
    assert "By day" not in tables(acme.browser("admin").get(acme.url(f"{token.token_id}/")))
