"""From where, from when and for which API a token may be used: held when it is granted or changed, and at each use."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from apitokens.models import ApiToken, TokenType
from audit.models import AuditEvent
from tenants.models import ApiIdentifier
from tests.agreement import answer_to, by_queryset_and_policy
from tests.answers import body, problem
from tests.cast import bearer, claims_of, grant, jwt_of

AT = datetime(2031, 5, 1, 12, 0, 0, tzinfo=UTC)
DAY = 86_400
NEW = {"name": "CI", "kind": "access_token", "roles": ["viewer"]}
REPORTS, BILLING = "https://reports.example.com", "https://billing.example.com"
KINDS = ("access_token", "client_credentials")


@pytest.fixture(autouse=True)
def frozen():
    with time_machine.travel(AT, tick=False) as clock:
        yield clock


@pytest.fixture
def apis(world):
    """Production has two API identifiers beside the default one."""
    for uri in (REPORTS, BILLING):
        ApiIdentifier.objects.create(environment=world.production, uri=uri)
    return {"default": ApiIdentifier.objects.get(environment=world.production, is_default=True).uri}


def make(house, person="admin", **asked):
    return house.api(person, "POST", f"tokens?tenant={house.tenant.id}", {**NEW, **asked})


def change(house, issued, person="admin", **asked):
    return house.api(person, "PATCH", f"tokens/{issued.token.token_id}", asked)


def say(answer):
    return (answer.status_code, answer.json().get("errors"))


def works(machine, issued):
    return answer_to(machine, issued).status_code == 200


def test_all_three_are_given_and_shown(acme, apis):
    asked = {
        "ip_allowlist": ["2001:db8::/32", "203.0.113.0/24"],
        "not_before": "2031-05-02T12:00:00Z",
        "audiences": [REPORTS],
    }
    answer = make(acme, **asked)
    made = answer.json()
    secret = made.pop("access_token")
    known = {**asked, "id": made["id"], "last_four": secret[-4:], "flags": [], "state": "not_yet"}
    assert (answer.status_code, made) == (201, body(acme, **known))
    event = AuditEvent.objects.get(verb="apitoken.issued", target_id=ApiToken.objects.get().pk)
    assert {name: event.after[name] for name in asked} == {**asked, "not_before": "2031-05-02T12:00:00+00:00"}


# From when.


@pytest.mark.parametrize("kind", KINDS)
def test_before_it_begins_it_does_not_work_and_says_so_to_its_holder(frozen, acme, machine, kind):
    issued = acme.issue("admin", kind=kind, not_before=AT + timedelta(hours=1))
    answer = answer_to(machine, issued)
    message = "It is not valid before 2031-05-01T13:00:00Z."
    if kind == "access_token":
        assert answer.json()["detail"] == f"The token is right but does not work. {message}"
    else:
        assert answer.json() == {"error": "unauthorized_client", "error_description": message}
    for seconds, begun in ((3599, False), (3600, True)):
        at = AT + timedelta(seconds=seconds)
        frozen.move_to(at, tick=False)
        assert works(machine, issued) == begun
        queryset, policies = by_queryset_and_policy(at=at)
        assert queryset == policies == {issued.token.token_id: begun}


def test_it_begins_before_it_expires(acme):
    message = "It would expire before it begins: choose an earlier moment, or a later expiry."
    refused = (400, {"not_before": [message]})
    for begins, expires, is_refused in (("13:00", "13:00", True), ("13:00", "12:59", True), ("12:59", "13:00", False)):
        asked = {"not_before": f"2031-05-01T{begins}:00Z", "expires_at": f"2031-05-01T{expires}:00Z"}
        answer = make(acme, **asked)
        assert (say(answer) == refused, answer.status_code == 201) == (is_refused, not is_refused)
    issued = acme.issue("admin", name="Other", expires_at=AT + timedelta(hours=1))
    assert say(change(acme, issued, not_before="2031-05-01T13:00:00Z")) == refused
    assert change(acme, issued, not_before="2031-05-01T12:30:00Z").json()["state"] == "not_yet"
    assert say(change(acme, issued, expires_in=60)) == refused
    assert say(acme.api("admin", "POST", f"tokens/{issued.token.token_id}/rotate", {"expires_in": 60})) == refused
    assert change(acme, issued, not_before=None).json()["state"] == "usable"


def test_a_moment_out_of_sight_is_refused(acme):
    assert list(make(acme, not_before="2999-01-01T00:00:00Z").json()["errors"]) == ["not_before"]


def test_no_jwt_is_older_than_the_beginning(frozen, acme, machine):
    """What it got while it worked is dead, and stays so once it has begun."""
    issued = acme.issue("admin", kind="client_credentials")
    old = bearer(jwt_of(machine, issued))
    assert change(acme, issued, not_before="2031-05-01T12:30:00Z").status_code == 200
    assert machine.get("/api/v1/token/self", headers=old).status_code == 401
    frozen.move_to(AT + timedelta(minutes=31), tick=False)
    assert machine.get("/api/v1/token/self", headers=old).status_code == 401
    new = bearer(jwt_of(machine, issued))
    assert machine.get("/api/v1/token/self", headers=new).status_code == 200
    assert change(acme, issued, not_before="2031-05-01T12:00:00Z").status_code == 200
    assert machine.get("/api/v1/token/self", headers=new).status_code == 200


# From where.


def test_the_networks_are_changed_and_taken_away(acme, machine):
    issued = acme.issue("admin")
    assert change(acme, issued, ip_allowlist=["203.0.113.7", "::1"]).json()["ip_allowlist"] == [
        "203.0.113.7/32",
        "::1/128",
    ]
    assert not works(machine, issued)
    assert change(acme, issued, ip_allowlist=["127.0.0.0/8"]).status_code == 200
    assert works(machine, issued)
    assert change(acme, issued, name="Renamed").json()["ip_allowlist"] == ["127.0.0.0/8"]
    assert change(acme, issued, ip_allowlist=[]).json()["ip_allowlist"] == []
    edits = AuditEvent.objects.filter(verb="apitoken.edited").order_by("id")
    assert [event.after["ip_allowlist"] for event in edits] == [
        ["203.0.113.7/32", "::1/128"], ["127.0.0.0/8"], ["127.0.0.0/8"], [],
    ]  # fmt: skip


def test_a_type_that_requires_networks_lets_none_be_taken_away(acme):
    issued = acme.issue("admin", ip_allowlist=("127.0.0.0/8",))
    TokenType.objects.update(requires_ip_allowlist=True)
    message = "Tokens of this type need the networks they may be used from."
    answer = change(acme, issued, ip_allowlist=[])
    assert (answer.status_code, answer.json()) == (
        400,
        problem(400, "invalid", message, errors={"ip_allowlist": [message]}),
    )
    assert change(acme, issued, ip_allowlist=["10.0.0.0/8"]).status_code == 200


def test_a_network_that_is_none_is_named(acme):
    assert list(change(acme, acme.issue("admin"), ip_allowlist=["office"]).json()["errors"]) == ["ip_allowlist"]


# For which API.


@pytest.mark.parametrize("uri", ["https://unknown.example.com", "{staging}", "/", "REPORTS"])
def test_an_audience_is_an_identifier_of_the_environment_or_its_issuer(world, apis, uri):
    acme, uri = world.acme, uri.format(staging=world.staging.issuer)
    ApiIdentifier.objects.create(environment=world.staging, uri="https://unknown.example.com")
    assert list(make(acme, audiences=[uri]).json()["errors"]) == ["audiences"]
    assert list(change(acme, acme.issue("admin"), audiences=[uri]).json()["errors"]) == ["audiences"]
    for good in ([REPORTS], [acme.environment.issuer], [BILLING, REPORTS, REPORTS]):
        answer = make(acme, name=f"CI {len(good)} {good[0]}", audiences=good)
        assert (answer.status_code, answer.json()["audiences"]) == (201, sorted(set(good)))


HELD = {
    "to nothing": ([], "default", True),
    "to the default": (["default"], "default", True),
    "to another": ([REPORTS], REPORTS, False),
    "to two others": ([BILLING, REPORTS], [BILLING, REPORTS], False),
    "to the default and another": ([REPORTS, "default"], "default", True),
    "to the issuer": (["issuer"], "issuer", True),
}


@pytest.mark.parametrize("held", HELD)
def test_the_jwt_is_meant_for_what_the_token_is_held_to_and_our_api_asks(acme, machine, apis, held):
    audiences, aud, opens_ours = HELD[held]
    names = {**apis, "issuer": acme.environment.issuer}
    audiences = tuple(names.get(uri, uri) for uri in audiences)
    client = acme.issue("admin", kind="client_credentials", audiences=audiences)
    expected = names.get(aud, aud) if isinstance(aud, str) else aud
    assert claims_of(jwt_of(machine, client))["aud"] == expected
    opaque = acme.issue("admin", name="Opaque", audiences=audiences)
    answers = [
        machine.get("/api/v1/token/self", headers=bearer(credential)).status_code
        for credential in (opaque.plaintext, jwt_of(machine, client))
    ]
    assert answers == ([200, 200] if opens_ours else [401, 401])


def test_an_identifier_that_is_removed_is_no_audience_any_more(acme, machine, apis):
    client = acme.issue("admin", kind="client_credentials", audiences=(BILLING, REPORTS))
    ApiIdentifier.objects.filter(uri=BILLING).delete()
    assert claims_of(jwt_of(machine, client))["aud"] == REPORTS
    ApiIdentifier.objects.filter(uri=REPORTS).delete()
    answer = grant(machine, client)
    message = "None of the APIs that it is held to is left."
    assert (answer.status_code, answer.json()) == (
        400,
        {"error": "unauthorized_client", "error_description": message},
    )
    assert acme.api("admin", "GET", f"tokens/{client.token.token_id}").json()["state"] == "no_audience"
    none_left = "None of its APIs is left, and naming none would mean all of them: name one that there is."
    assert say(change(acme, client, audiences=[])) == (400, {"audiences": [none_left]})
    # What it has it may keep; what it never had stays unknown.
    assert change(acme, client, audiences=[BILLING]).json()["state"] == "no_audience"
    assert say(change(acme, client, audiences=[REPORTS])) == (
        400,
        {"audiences": [f"Unknown API identifier: {REPORTS}."]},
    )
    for audiences in ([acme.environment.issuer], []):
        assert change(acme, client, audiences=audiences).json()["state"] == "usable"


# Changing them is granting.

RESTRICTIONS = [
    {"ip_allowlist": ["127.0.0.0/8"]},
    {"audiences": [REPORTS]},
    {"not_before": "2031-05-01T12:30:00Z"},
    {"not_before": None},
]


@pytest.mark.parametrize("asked", RESTRICTIONS)
def test_whoever_could_not_grant_all_it_may_do_changes_none_of_them(acme, apis, asked):
    issued = acme.issue("owner", roles=["owner"])
    answer = change(acme, issued, **asked)
    assert (answer.status_code, answer.json()["code"]) == (403, "role_above_ceiling")
    assert change(acme, issued, "owner", **asked).status_code == 200


@pytest.mark.parametrize("asked", RESTRICTIONS)
def test_where_the_type_is_switched_off_none_of_them_changes(acme, apis, asked):
    issued = acme.issue("admin")
    TokenType.objects.update(is_enabled=False)
    assert change(acme, issued, **asked).json()["code"] == "token_type_disabled"


# What a token makes, and what that makes (R13).


@pytest.fixture
def parent(acme, apis):
    return acme.issue_for_environment(
        name="Parent", kind="access_token", ip_allowlist=("127.0.0.0/8",), audiences=(apis["default"], REPORTS)
    )


@pytest.fixture
def child(acme, machine, parent):
    """What the parent makes, by id."""

    def made(**asked):
        sent = {**NEW, "name": f"Child {ApiToken.objects.count()}", "tenant": str(acme.tenant.id), **asked}
        return machine.post("/api/v1/tokens", sent, content_type="application/json", headers=bearer(parent.plaintext))

    return made


def test_a_child_inherits_them_or_is_narrower(acme, apis, child):
    made = child().json()
    assert (made["ip_allowlist"], made["audiences"]) == (["127.0.0.0/8"], sorted([apis["default"], REPORTS]))
    assert child(audiences=[REPORTS], ip_allowlist=["127.0.0.1"]).status_code == 201
    assert say(child(audiences=[BILLING])) == (
        400,
        {"audiences": ["It can't be used for more APIs than the token that makes it."]},
    )
    assert list(child(ip_allowlist=["10.0.0.0/8"]).json()["errors"]) == ["ip_allowlist"]


def test_a_person_widens_a_child_no_further_than_its_parent(acme, apis, child):
    path = f"tokens/{child(audiences=[REPORTS], ip_allowlist=['127.0.0.1']).json()['id']}"
    for asked in ({"audiences": [BILLING]}, {"ip_allowlist": ["0.0.0.0/0"]}):
        assert say(acme.api("owner", "PATCH", path, asked))[0] == 400
    inherited = acme.api("owner", "PATCH", path, {"audiences": [], "ip_allowlist": []}).json()
    assert (inherited["audiences"], inherited["ip_allowlist"]) == (sorted([apis["default"], REPORTS]), ["127.0.0.0/8"])


@pytest.mark.parametrize(("asked", "status"), [([REPORTS], 200), ([], 200), ([BILLING], 400)])
def test_a_token_changes_its_own_audiences_within_what_they_are(acme, machine, apis, parent, asked, status):
    answer = machine.patch(
        f"/api/v1/tokens/{parent.token.token_id}", {"audiences": asked}, content_type="application/json",
        headers=bearer(parent.plaintext),
    )  # fmt: skip
    assert answer.status_code == status
    assert set(ApiToken.objects.get(pk=parent.token.pk).audiences) <= {apis["default"], REPORTS}


@pytest.mark.parametrize(("act", "status"), [("rotate", 201), ("enable", 200)])
@pytest.mark.parametrize(("audiences", "allowed"), [([REPORTS], True), ([], False), ([BILLING], False)])
def test_a_token_rotates_and_enables_nothing_good_for_more_apis(acme, machine, parent, act, status, audiences, allowed):
    other = acme.issue("owner", name="Other").token
    disabled_at = AT if act == "enable" else None
    ApiToken.objects.filter(pk=other.pk).update(
        audiences=audiences, ip_allowlist=["127.0.0.1/32"], disabled_at=disabled_at
    )
    headers = bearer(parent.plaintext)
    answer = machine.post(f"/api/v1/tokens/{other.token_id}/{act}", content_type="application/json", headers=headers)
    if allowed:
        assert answer.status_code == status
    else:
        assert (answer.status_code, answer.json()["code"]) == (403, "wider_than_caller")


def of_office(world, parent, **asked):
    path = f"tokens/{parent.token.token_id}"
    return world.office.api("owner", "PATCH", path, asked, environment=world.production)


def test_narrowing_a_token_narrows_what_it_made(world, apis, parent, child):
    path = f"tokens/{child(audiences=[REPORTS], ip_allowlist=['127.0.0.0/16', '127.9.0.0/16']).json()['id']}"
    assert of_office(world, parent, ip_allowlist=["127.0.0.0/24", "127.9.0.0/12"]).status_code == 400
    narrower = {"ip_allowlist": ["127.0.0.0/24", "127.0.0.0/30", "127.9.1.0/24"], "expires_in": DAY}
    assert of_office(world, parent, **narrower).status_code == 200
    now = world.acme.api("owner", "GET", path).json()
    assert (now["ip_allowlist"], now["audiences"], now["expires_at"], now["state"]) == (
        ["127.0.0.0/24", "127.0.0.0/30", "127.9.1.0/24"], [REPORTS], "2031-05-02T12:00:00Z", "usable",
    )  # fmt: skip


@pytest.mark.parametrize("narrower", [{"ip_allowlist": ["10.0.0.0/8"]}, {"audiences": [BILLING]}])
def test_what_is_left_with_nothing_is_disabled_and_stays_within_its_parent(
    world, apis, machine, parent, child, narrower
):
    """An empty list would be everywhere."""
    ApiToken.objects.filter(pk=parent.token.pk).update(audiences=[apis["default"], REPORTS, BILLING])
    made = child(audiences=[REPORTS, apis["default"]], ip_allowlist=["127.0.0.1"]).json()
    path = f"tokens/{made['id']}"
    assert of_office(world, parent, **narrower).status_code == 200
    now = world.acme.api("owner", "GET", path).json()
    assert now["state"] == "disabled"
    assert {name: now[name] for name in narrower} == narrower
    verbs = AuditEvent.objects.filter(target_id=ApiToken.objects.get(token_id=made["id"]).pk).values_list(
        "verb", flat=True
    )
    assert sorted(verbs) == ["apitoken.disabled", "apitoken.edited", "apitoken.issued"]


def test_one_that_would_begin_after_its_parent_ends_is_disabled(world, apis, parent, child):
    made = child(not_before="2031-06-01T12:00:00Z").json()
    assert of_office(world, parent, expires_in=DAY).status_code == 200
    now = world.acme.api("owner", "GET", f"tokens/{made['id']}").json()
    assert (now["state"], now["expires_at"], now["not_before"]) == ("disabled", "2031-05-02T12:00:00Z", None)


def test_one_that_its_type_caps_before_it_begins_is_disabled(world):
    issued = world.acme.issue("admin", not_before=AT + timedelta(days=20))
    sent = {"default_lifetime": DAY, "longest_lifetime": DAY, "may_never_expire": False, "existing": "cap"}
    path = "token-types/tenant/access_token"
    assert world.office.api("owner", "PATCH", path, sent, environment=world.production).status_code == 200
    now = world.acme.api("admin", "GET", f"tokens/{issued.token.token_id}").json()
    assert (now["state"], now["expires_at"], now["not_before"]) == ("disabled", "2031-05-02T12:00:00Z", None)
    assert AuditEvent.objects.filter(verb="apitoken.disabled", target_id=issued.token.pk).count() == 1


def test_nobody_enables_what_is_wider_than_what_made_it(world, apis, machine, parent, child):
    path = f"tokens/{child().json()['id']}"
    assert world.acme.api("owner", "POST", f"{path}/disable").status_code == 200
    ApiToken.objects.filter(parent=parent.token).update(ip_allowlist=[])
    answer = world.acme.api("owner", "POST", f"{path}/enable")
    assert (answer.status_code, answer.json()["code"]) == (409, "wider_than_parent")
    assert world.acme.api("owner", "PATCH", path, {"ip_allowlist": []}).status_code == 200
    assert world.acme.api("owner", "POST", f"{path}/enable").json()["state"] == "usable"
