"""The vendor's people and tokens: their own, and all of an environment, found without leaving what was typed behind."""

import logging
import re
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apitokens.models import DAY, ApiToken, TokenType
from apitokens.setup import hold
from audit.models import AuditEvent
from tenants.models import Role
from tests.cast import bearer, everything_stored, shown

SIGNING_IN = ("django_session", "accounts_user")
ROW = re.compile(r'data-token-id="(\w+)"')


@pytest.fixture
def vendors(world):
    """The office, in production."""

    class Vendors:
        office, environment = world.office, world.production

        def get(self, path, role="admin", browser=None):
            return self.office.page(role, self.environment, path, browser)

        def post(self, path, role="admin", browser=None, **fields):
            return self.office.post(role, self.environment, path, browser, **fields)

        def found(self, path, role="admin"):
            page = self.get(path, role)
            assert page.status_code == 200
            return set(ROW.findall(page.content.decode()))

    return Vendors()


def ids(*issued):
    return {each.token.token_id for each in issued}


def make(vendors, **asked):
    filled = {"name": "Backend", "owner": "environment", "kind": "access_token", "expires_in": "never", **asked}
    return vendors.post("tokens/new/", **filled)


# Backend tokens


def test_a_vendors_admin_makes_a_backend_token_and_is_shown_its_secret(vendors, machine):
    page = make(vendors, roles=["backend"])
    assert page.status_code == 200
    plaintext = shown(page)["access_token"]
    token = ApiToken.objects.get()
    assert (token.owner, token.tenant, token.environment) == ("environment", None, vendors.environment)
    assert token.creator_id == vendors.office.people["admin"].user_id
    assert machine.get("/api/v1/token/self", headers=bearer(plaintext)).status_code == 200
    assert [table for table, rows in everything_stored().items() if plaintext in str(rows)] == []


def test_a_backend_token_may_have_permissions_picked_directly(vendors):
    assert make(vendors, permissions=["reports:read", "tenants:read"]).status_code == 200
    token = ApiToken.objects.get()
    assert (token.granted_through, token.granted) == ("permissions", ["reports:read", "tenants:read"])
    both = make(vendors, name="Both", roles=["backend"], permissions=["reports:read"])
    assert (both.status_code, "Give either roles or permissions" in both.content.decode()) == (422, True)


def test_a_tenants_person_is_offered_no_permissions_directly(acme):
    page = acme.browser("admin").get(acme.url("new/")).content.decode()
    assert 'name="roles"' in page
    assert 'name="permissions"' not in page


@pytest.mark.parametrize(("role", "status"), [("owner", 200), ("admin", 200), ("auditor", 403)])
def test_an_auditor_makes_no_backend_token(vendors, role, status):
    assert vendors.get("tokens/new/", role).status_code == status
    assert ("tokens/new/" in vendors.get("tokens/", role).content.decode()) == (status == 200)


def test_the_list_of_backend_tokens_has_no_others(vendors, world):
    own = world.acme.issue_for_environment(name="Backend")
    world.acme.issue("admin", name="Acme's")
    world.acme_staging.issue_for_environment(name="Staging's")
    assert vendors.found("tokens/") == ids(own)


def test_a_backend_token_lives_its_whole_life_in_the_console(vendors, world, machine):
    issued = world.acme.issue_for_environment(name="Backend", kind="client_credentials")
    base, browser = f"tokens/{issued.token.token_id}/", vendors.office.browser("admin")
    for path in ("", "edit/", "delete/", "rotate/"):
        assert vendors.get(base + path, browser=browser).status_code == 200
    steps = [("edit/", {"name": "Renamed"}), ("disable/", {}), ("enable/", {}), ("end-jwts/", {})]
    for path, fields in steps:
        answer = vendors.post(base + path, browser=browser, **fields)
        assert (answer.status_code, answer.headers["Location"]) == (302, vendors.office.url(vendors.environment, base))
    rotated = vendors.post(base + "rotate/", browser=browser)
    assert shown(rotated)["client_secret"] != issued.plaintext
    answer = vendors.post(base + "delete/", browser=browser)
    assert (answer.status_code, answer.headers["Location"]) == (302, vendors.office.url(vendors.environment, "tokens/"))
    assert not ApiToken.objects.exists()


# Tenants' and personal tokens in the console


@pytest.mark.parametrize("owner", ["tenant", "user"])
def test_tokens_of_a_tenant_are_looked_at_and_stopped_but_not_changed(vendors, world, owner):
    token = world.acme.issue("admin", owner=owner, kind="client_credentials").token
    base, browser = f"tokens/{token.token_id}/", vendors.office.browser("admin")
    page = vendors.get(base, browser=browser).content.decode()
    assert "/edit/" not in page
    assert "/rotate/" not in page
    for path, status in (("edit/", 404), ("rotate/", 404), ("delete/", 200)):
        assert vendors.get(base + path, browser=browser).status_code == status
    for path in ("edit/", "rotate/"):
        assert vendors.post(base + path, browser=browser, name="Renamed").status_code == 404
    assert vendors.post(base + "disable/", browser=browser).status_code == 302
    assert vendors.post(base + "end-jwts/", browser=browser).status_code == 302
    token.refresh_from_db()
    assert (token.disabled_at is None, token.generation, token.name) == (False, 2, "CI")
    enabled = vendors.post(base + "enable/", browser=browser)
    assert enabled.status_code == (302 if owner == "tenant" else 403)
    answer = vendors.post(base + "delete/", browser=browser)
    assert (answer.status_code, answer.headers["Location"].rsplit("/", 2)[1]) == (302, "all-tokens")
    assert not ApiToken.objects.exists()
    event = AuditEvent.objects.get(verb="apitoken.deleted")
    assert (event.tenant_id, event.actor_id) == (world.acme.tenant.id, vendors.office.people["admin"].user_id)


def test_an_auditor_stops_nothing(vendors, world):
    token = world.acme.issue("admin").token
    base, browser = f"tokens/{token.token_id}/", vendors.office.browser("auditor")
    assert vendors.get(base, browser=browser).status_code == 200
    for path in ("disable/", "end-jwts/", "delete/"):
        assert vendors.post(base + path, browser=browser).status_code == 403
    token.refresh_from_db()
    assert (token.disabled_at, token.generation) == (None, 0)


@pytest.mark.parametrize("path", ["", "edit/", "delete/", "rotate/"])
def test_a_token_of_another_environment_is_like_one_that_never_was(vendors, world, path):
    foreign = world.acme_staging.issue("admin").token
    pages = [vendors.get(f"tokens/{token_id}/{path}") for token_id in (foreign.token_id, "0" * 12)]
    assert [page.status_code for page in pages] == [404, 404]
    without = [re.sub(rb'value="\w{64}"', b"", page.content) for page in pages]
    assert without[0] == without[1]


# All tokens


@pytest.fixture
def many(world):
    acme, globex = world.acme, world.globex
    made = {
        "backend": acme.issue_for_environment(name="Backend"),
        "acme": acme.issue("admin", name="Nightly export", kind="client_credentials", roles=["admin"]),
        "mine": acme.issue("member", name="Laptop", owner="user"),
        "globex": globex.issue("owner", name="Nightly import"),
    }
    world.acme_staging.issue("admin", name="Nightly staging")
    return made


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {"backend", "acme", "mine", "globex"}),
        ("owner=tenant", {"acme", "globex"}),
        ("owner=user", {"mine"}),
        ("kind=client_credentials", {"acme"}),
        ("role=admin", {"acme"}),
        ("state=usable", {"backend", "mine", "globex"}),
        ("state=disabled", {"acme"}),
        ("state=out_of_policy", {"mine"}),
        ("tenant={acme.tenant.id}", {"acme", "mine"}),
        ("tenant={acme.tenant.slug}", {"acme", "mine"}),
        ("tenant={acme.tenant.external_id}&owner=tenant", {"acme"}),
        ("creator={creator}", {"globex"}),
        ("creator={nobody}", set()),
        ("state=nonsense", set()),
        ("tenant=nobody", set()),
        ("role=nobody", set()),
    ],
)
def test_all_tokens_are_narrowed_by_what_stands_in_the_address(vendors, world, many, query, expected):
    ApiToken.objects.filter(pk=many["acme"].token.pk).update(disabled_at=timezone.now())
    TokenType.objects.filter(environment=world.production, owner="user").update(requires_ip_allowlist=True)
    query = query.format(acme=world.acme, creator=world.globex.people["owner"].user_id, nobody=uuid4())
    assert vendors.found(f"all-tokens/?{query}") == ids(*(many[name] for name in expected))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (lambda many: many["acme"].token.token_id, "acme"),
        (lambda many: f"  {many['acme'].token.token_id} ", "acme"),
        (lambda many: many["acme"].token.client_id, "acme"),
        (lambda many: many["acme"].plaintext[-4:], "acme"),
        (lambda many: many["globex"].plaintext, "globex"),
        (lambda many: f"Authorization: Bearer {many['mine'].plaintext}\n", "mine"),
        (lambda many: f"CLIENT_SECRET='{many['acme'].plaintext}'", "acme"),
        (lambda many: "laptop", "mine"),
        (lambda many: "LAP", "mine"),
        (lambda many: "nightly", {"acme", "globex"}),
        (lambda many: "export", set()),
        (lambda many: "%", set()),
        (lambda many: "", set()),
        (lambda many: "\0", set()),
        (lambda many: many["acme"].plaintext[:-1], set()),
        (lambda many: many["acme"].plaintext[:-1] + "!", set()),
        (lambda many: "x" * 5000, set()),
    ],
)
def test_a_token_is_found_by_what_people_have_of_it(vendors, many, text, expected):
    answer = vendors.post("all-tokens/", q=text(many))
    if isinstance(expected, str):
        where = vendors.office.url(vendors.environment, f"tokens/{many[expected].token.token_id}/")
        assert (answer.status_code, answer.headers["Location"]) == (302, where)
    else:
        assert answer.status_code == 200
        assert set(ROW.findall(answer.content.decode())) == ids(*(many[name] for name in expected))


def test_a_token_of_another_environment_is_not_found_by_its_secret(vendors, world):
    foreign = world.acme_staging.issue("admin")
    answer = vendors.post("all-tokens/", q=foreign.plaintext)
    assert (answer.status_code, "Nothing was found" in answer.content.decode()) == (200, True)


@pytest.mark.parametrize("end", [0, -1], ids=["whole", "cut-short"])
def test_what_is_pasted_is_kept_nowhere(vendors, many, caplog, end):
    secret = many["globex"].plaintext
    pasted = secret[: len(secret) + end]
    browser = vendors.office.browser("admin")
    with caplog.at_level(logging.DEBUG), CaptureQueriesContext(connection) as queries:
        answer = vendors.post("all-tokens/", browser=browser, q=pasted)
    core = pasted[-50:-7]
    assert core not in answer.content.decode() + str(answer.headers) + str(browser.cookies)
    assert core not in caplog.text + str(
        [vars(record) for record in caplog.records if record.name != "django.db.backends"]
    )
    assert core not in str(queries.captured_queries)
    assert [table for table, rows in everything_stored().items() if core in str(rows)] == []
    if answer.status_code == 302:
        assert core not in browser.get(answer.headers["Location"]).content.decode()


def test_a_name_that_is_typed_is_not_said_back_either(vendors, many):
    page = vendors.post("all-tokens/", q="Nightly e and nothing else").content.decode()
    assert "nothing else" not in page


@pytest.mark.parametrize("path", ["all-tokens/", "all-tokens/?state=usable", "tokens/", "token-types/"])
def test_a_page_of_fifty_takes_as_many_queries_as_one_of_five(vendors, world, path):
    browser = vendors.office.browser("admin")
    vendors.get(path, browser=browser)

    def queries():
        with CaptureQueriesContext(connection) as captured:
            assert vendors.get(path, browser=browser).status_code == 200
        return len(captured)

    def fill(numbers):
        for number in numbers:
            world.acme.issue("admin", name=f"CI {number}")
            world.acme.issue_for_environment(name=f"Backend {number}")

    fill(range(3))
    few = queries()
    fill(range(3, 30))
    assert queries() == few


def test_the_list_goes_on_on_the_next_page(vendors, world):
    made = [world.acme.issue("admin", name=f"CI {number}") for number in range(51)]
    page = vendors.get("all-tokens/?owner=tenant").content.decode()
    following = re.search(r'rel="next" href="([^"]+)"', page)[1].replace("&amp;", "&")
    assert len(ROW.findall(page)) == 50
    rest = vendors.office.browser("admin").get(following.removeprefix("http://localhost:8000")).content.decode()
    assert set(ROW.findall(rest)) == ids(made[0])


# Disable all


def test_all_of_a_tenant_are_disabled_after_a_look_at_them(vendors, world, many, machine):
    query = f"tenant={world.acme.tenant.id}"
    browser = vendors.office.browser("admin")
    listed = vendors.get(f"all-tokens/?{query}", browser=browser).content.decode()
    assert f"all-tokens/disable/?{query}" in listed
    page = vendors.get(f"all-tokens/disable/?{query}", browser=browser).content.decode()
    assert "Disable 2 tokens?" in page
    assert "All tokens of Acme." in page
    assert "Nightly export" in page
    assert "Nightly import" not in page
    assert not ApiToken.objects.filter(disabled_at__isnull=False).exists()
    answer = vendors.post(f"all-tokens/disable/?{query}", browser=browser)
    assert answer.status_code == 302
    assert ids(many["acme"], many["mine"]) == set(
        ApiToken.objects.filter(disabled_at__isnull=False).values_list("token_id", flat=True)
    )
    assert AuditEvent.objects.filter(verb="apitoken.disabled").count() == 2
    assert machine.get("/api/v1/token/self", headers=bearer(many["mine"].plaintext)).status_code == 401


def test_who_was_shown_others_is_asked_again(vendors, world, many):
    query = f"tenant={world.acme.tenant.id}"
    browser = vendors.office.browser("admin")
    fields = vendors.office.hidden(browser, vendors.environment, f"all-tokens/disable/?{query}")
    world.acme.issue("admin", name="One more")
    answer = browser.post(vendors.office.url(vendors.environment, "all-tokens/disable/"), fields)
    assert answer.status_code == 409
    assert "Disable 3 tokens?" in answer.content.decode()
    assert "2 were shown, 3 match now." in answer.content.decode()
    assert not ApiToken.objects.filter(disabled_at__isnull=False).exists()


def test_what_is_disabled_is_said_in_words_and_one_token_is_one(vendors, world, many):
    acme = world.acme
    acme.issue("owner", name="Reader", roles=["owner"])
    query = f"tenant={acme.tenant.id}&role=owner"
    browser = vendors.office.browser("admin")
    page = vendors.get(f"all-tokens/disable/?{query}", browser=browser).content.decode()
    assert "All tokens of Acme, with the role Owner." in page
    assert "Disable 1 token?" in page
    assert vendors.post(f"all-tokens/disable/?{query}", browser=browser).status_code == 302
    assert "1 token was disabled and stops working now." in vendors.get(browser=browser, path="").content.decode()
    nothing = vendors.get(f"all-tokens/disable/?{query}", browser=browser).content.decode()
    assert "Nothing to disable" in nothing
    assert '<form method="post"' not in nothing.split("<main", 1)[1]


def test_nobody_disables_everything_by_an_empty_filter(vendors, many):
    assert "all-tokens/disable/" not in vendors.get("all-tokens/").content.decode()
    assert vendors.get("all-tokens/disable/").status_code == 302
    browser = vendors.office.browser("admin")
    fields = vendors.office.hidden(browser, vendors.environment, "all-tokens/")
    answer = browser.post(vendors.office.url(vendors.environment, "all-tokens/disable/"), {**fields, "expected": "4"})
    assert answer.status_code == 302
    assert not ApiToken.objects.filter(disabled_at__isnull=False).exists()


def test_an_auditor_disables_nothing(vendors, world, many):
    query = f"tenant={world.acme.tenant.id}"
    assert "all-tokens/disable/" not in vendors.get(f"all-tokens/?{query}", "auditor").content.decode()
    answer = vendors.post(f"all-tokens/disable/?{query}", "auditor", tenant=str(world.acme.tenant.id), expected="2")
    assert answer.status_code == 403
    assert not ApiToken.objects.filter(disabled_at__isnull=False).exists()


# Children


def test_a_token_that_leaked_goes_with_what_it_made(vendors, world, machine):
    parent = world.acme.issue_for_environment(name="Backend")
    sent = {"name": "Child", "kind": "access_token", "roles": ["viewer"], "tenant": str(world.acme.tenant.id)}
    headers = bearer(parent.plaintext)
    child = machine.post("/api/v1/tokens", sent, content_type="application/json", headers=headers).json()
    page = vendors.get(f"tokens/{parent.token.token_id}/").content.decode()
    assert f"/tokens/{child['id']}/" in page
    assert f"/tokens/{parent.token.token_id}/" in vendors.get(f"tokens/{child['id']}/").content.decode()
    assert vendors.found(f"all-tokens/?parent={parent.token.token_id}") == {child["id"]}
    asked = vendors.get(f"tokens/{parent.token.token_id}/delete/").content.decode()
    assert 'name="compromised"' in asked
    assert 'name="compromised"' not in vendors.get(f"tokens/{child['id']}/delete/").content.decode()
    assert vendors.post(f"tokens/{parent.token.token_id}/delete/", compromised="on").status_code == 302
    assert not ApiToken.objects.exists()


# Token types


def settings(browser, office, environment, path):
    """The form as rendered, as a browser would send it."""
    page = browser.get(office.url(environment, path)).content.decode()
    fields = office.hidden(browser, environment, path)
    for found in re.finditer(r'<input type="(number|checkbox|radio)" name="(\w+)" value="([^"]*)"([^>]*)>', page):
        kind, name, value, rest = found.groups()
        if kind == "number" or "checked" in rest:
            fields[name] = value
    for name in re.findall(r'<input type="checkbox" name="(\w+)"[^>]* checked', page):
        fields.setdefault(name, "on")
    for name, options in re.findall(r'<select name="(\w+)"[^>]*>(.*?)</select>', page, re.DOTALL):
        fields[name] = re.search(r'<option value="([^"]*)" selected', options)[1]
    carries = re.search(r'name="carries"\s+value="(\w+)"[^>]*?\schecked', page)
    return {**fields, "carries": carries[1]}


TYPE = "token-types/tenant/access_token/"


def test_the_six_cells_lead_to_their_tokens_and_settings(vendors, world, many):
    TokenType.objects.filter(environment=world.production, owner="user").update(requires_ip_allowlist=True)
    page = vendors.get("token-types/", "auditor").content.decode()
    assert len(re.findall(r'data-cell="', page)) == 6
    assert "1 out of policy" in page
    for owner in ("environment", "tenant", "user"):
        for kind in ("client_credentials", "access_token"):
            assert vendors.get(f"token-types/{owner}/{kind}/", "auditor").status_code == 200
    assert vendors.get("token-types/tenant/nothing/").status_code == 404


def test_sending_the_settings_as_they_are_changes_nothing(vendors):
    browser = vendors.office.browser("admin")
    fields = settings(browser, vendors.office, vendors.environment, TYPE)
    before = everything_stored(but=SIGNING_IN)
    answer = browser.post(vendors.office.url(vendors.environment, TYPE), fields)
    assert answer.status_code == 302, answer.content.decode()
    assert everything_stored(but=SIGNING_IN) == before


def test_a_change_that_bites_nobody_is_saved_at_once(vendors):
    browser = vendors.office.browser("admin")
    fields = settings(browser, vendors.office, vendors.environment, TYPE)
    sent = {**fields, "longest_lifetime_0": "26", "longest_lifetime_1": str(7 * DAY), "quota": "5"}
    sent |= {"longest_lifetime_0": "120", "longest_lifetime_1": str(DAY), "default_lifetime_0": "12"}
    sent |= {"default_lifetime_1": "3600", "carries": "listed", "roles": ["viewer", "member"]}
    sent.pop("may_never_expire")
    answer = browser.post(vendors.office.url(vendors.environment, TYPE), sent)
    assert answer.status_code == 302, answer.content.decode()
    row = TokenType.objects.get(environment=vendors.environment, owner="tenant", kind="access_token")
    assert (row.longest_lifetime, row.default_lifetime, row.quota) == (120 * DAY, 12 * 3600, 5)
    assert (row.may_never_expire, row.carries_all_roles) == (False, False)
    assert sorted(row.roles.values_list("key", flat=True)) == ["member", "viewer"]


@pytest.mark.parametrize("existing", ["leave", "cap", "disable"])
def test_a_change_that_bites_is_shown_before_it_is_made(vendors, world, existing):
    token = world.acme.issue("admin", name="Nightly export", expires_at=timezone.now() + timedelta(days=80)).token
    browser, url = vendors.office.browser("admin"), vendors.office.url(vendors.environment, TYPE)
    fields = settings(browser, vendors.office, vendors.environment, TYPE)
    limits = {"longest_lifetime_0": "30", "default_lifetime_0": "30"}
    limits |= {"longest_lifetime_1": str(DAY), "default_lifetime_1": str(DAY)}
    review = browser.post(url, {**fields, **limits})
    page = review.content.decode()
    assert review.status_code == 200
    assert "Would be out of policy: 1" in page
    assert "Nightly export" in page
    assert (
        TokenType.objects.get(environment=vendors.environment, owner="tenant", kind="access_token").longest_lifetime
        is None
    )
    again = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page))
    back = browser.post(url, {**again, "step": "edit"}).content.decode()
    assert 'name="longest_lifetime_0" value="30"' in back
    assert re.search(r"Longest lifetime</dt>\s*<dd>no limit → 30 days</dd>", page)
    confirmed = browser.post(url, {**again, "step": "confirm", "existing": existing})
    assert confirmed.status_code == 302, confirmed.content.decode()
    after = browser.get(confirmed.headers["Location"]).content.decode()
    assert "at most 30 days, or never" in after
    assert ("1 token now ends within the limit." in after) == (existing == "cap")
    assert ("1 token was disabled and stops working now." in after) == (existing == "disable")
    was, token = token, ApiToken.objects.get(pk=token.pk)
    row = TokenType.objects.get(environment=vendors.environment, owner="tenant", kind="access_token")
    assert row.longest_lifetime == 30 * DAY
    assert (token.expires_at < was.expires_at, token.disabled_at is not None) == (
        existing == "cap",
        existing == "disable",
    )


def test_of_tokens_that_never_expire_the_review_says_that_a_limit_leaves_them(vendors, world):
    token = world.acme.issue("admin", name="Nightly export").token
    ApiToken.objects.filter(pk=token.pk).update(expires_at=None)
    browser, url = vendors.office.browser("admin"), vendors.office.url(vendors.environment, TYPE)
    fields = settings(browser, vendors.office, vendors.environment, TYPE)
    limits = {"longest_lifetime_0": "90", "longest_lifetime_1": str(DAY)}
    page = browser.post(url, {**fields, **limits}).content.decode()
    assert "1 token never expires. The new limit does not touch it." in page
    assert "The limit above does not bind tokens that never expire." in browser.get(url).content.decode()


def test_a_review_of_what_somebody_has_changed_since_is_not_carried_out(vendors, world):
    world.acme.issue("admin", expires_at=timezone.now() + timedelta(days=80))
    browser, url = vendors.office.browser("admin"), vendors.office.url(vendors.environment, TYPE)
    fields = settings(browser, vendors.office, vendors.environment, TYPE)
    review = browser.post(url, {**fields, "requires_ip_allowlist": "on"}).content.decode()
    again = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', review))
    rows = TokenType.objects.filter(environment=vendors.environment, owner="tenant", kind="access_token")
    rows.update(quota=9)
    answer = browser.post(url, {**again, "step": "confirm"})
    assert answer.status_code == 409
    assert "Somebody has changed this since you opened it" in answer.content.decode()
    assert (rows.get().requires_ip_allowlist, rows.get().quota) == (False, 9)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ({"default_lifetime_1": "never"}, "Choose a default lifetime"),
        ({"longest_lifetime_0": "1", "longest_lifetime_1": str(DAY)}, "longer than the longest"),
        ({"default_lifetime_0": "30", "default_lifetime_1": "1"}, "between one minute and fifty years"),
        ({"default_lifetime_0": "", "default_lifetime_1": str(DAY)}, "Give a whole number and its unit."),
        ({"longest_overlap_0": "31", "longest_overlap_1": str(DAY)}, "at most 30 days"),
        ({"quota": "0"}, "At least one."),
    ],
)
def test_a_setting_that_makes_no_sense_is_said_at_its_field_and_nothing_typed_is_lost(vendors, typed, message):
    browser, url = vendors.office.browser("admin"), vendors.office.url(vendors.environment, TYPE)
    fields = settings(browser, vendors.office, vendors.environment, TYPE)
    fields.pop("may_never_expire")
    answer = browser.post(url, {**fields, **typed})
    page = answer.content.decode()
    assert answer.status_code == 422
    assert message in page
    for name, value in typed.items():
        if name.endswith("_0") and value:
            assert f'name="{name}" value="{value}"' in page


def test_an_auditor_reads_the_settings_and_is_refused_a_change(vendors):
    page = vendors.get(TYPE, "auditor").content.decode()
    assert ">Save<" not in page
    typed = {"default_lifetime_0": "30", "default_lifetime_1": str(DAY), "longest_lifetime_1": "none"}
    typed |= {"longest_overlap_0": "1", "longest_overlap_1": str(DAY), "quota": "3", "carries": "all"}
    answer = vendors.post(TYPE, "auditor", **typed)
    assert answer.status_code == 403
    assert "token-types:create" in answer.content.decode()


def test_a_role_of_a_tenants_own_is_no_filter_of_the_vendors(vendors, world):
    own = Role.objects.create(environment=world.production, tenant=world.acme.tenant, key="own:x", name="X", level=1)
    hold(own, ["reports:read"])
    assert "own:x" not in vendors.get("all-tokens/").content.decode()
