"""R7: a new secret beside the old one. Both work until the deadline: complete, cancel, or wait."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from apitokens.models import ApiToken, Secret, TokenType
from apitokens.services import Issued
from apitokens.setup import give_role, hold
from audit.models import AuditEvent
from config import housekeeping
from tenants.models import Membership, MembershipRole
from tests.agreement import answer_to
from tests.answers import problem, version
from tests.cast import basic, bearer, jwt_of
from tests.factories import RoleFactory

AT = datetime(2031, 5, 1, 12, 0, 0, tzinfo=UTC)
HOUR, DAY = 3600, 86_400
KINDS = ("access_token", "client_credentials")
SECRET = {"access_token": "access_token", "client_credentials": "client_secret"}
SELF = ["token:self:rotate", "reports:read"]


@pytest.fixture(autouse=True)
def frozen():
    with time_machine.travel(AT, tick=False) as clock:
        yield clock


def after(clock, seconds):
    clock.move_to(AT + timedelta(seconds=seconds), tick=False)


def path_of(issued, act=""):
    return f"tokens/{issued.token.token_id}{act}"


def rotated(house, issued, person="admin", **asked):
    """The same token with its new secret."""
    answer = house.api(person, "POST", path_of(issued, "/rotate"), asked)
    assert answer.status_code == 201, answer.json()
    return Issued(token=issued.token, plaintext=answer.json()[SECRET[issued.token.kind]])


def works(machine, *issued):
    return [answer_to(machine, each).status_code == 200 for each in issued]


def read(house, issued, person="admin"):
    return house.api(person, "GET", path_of(issued)).json()


@pytest.mark.parametrize("kind", KINDS)
def test_both_secrets_work_until_the_deadline_and_then_the_new_one_alone(frozen, acme, machine, kind):
    old = acme.issue("admin", kind=kind)
    before = read(acme, old)
    answer = acme.api("admin", "POST", path_of(old, "/rotate"))
    made = answer.json()
    new = Issued(token=old.token, plaintext=made.pop(SECRET[kind]))
    deadline = "2031-05-02T12:00:00Z"
    versions = [version(old.plaintext[-4:], expires_at=deadline), version(new.plaintext[-4:])]
    under_way = {
        **before,
        "last_four": new.plaintext[-4:],
        "secrets": versions,
        "rotation": {"deadline": deadline},
    }
    assert (answer.status_code, answer.headers["Cache-Control"], made) == (201, "no-store", under_way)
    assert read(acme, old) == under_way
    assert works(machine, old, new) == [True, True]
    after(frozen, DAY - 1)
    assert works(machine, old, new) == [True, True]
    after(frozen, DAY)
    assert works(machine, old, new) == [False, True]
    now = read(acme, old)
    assert (now["secrets"], now["rotation"]) == ([versions[1]], None)
    assert Secret.objects.filter(slot__isnull=False).count() == 2  # nothing had to be swept for it


LIMIT = 7 * DAY
OVERLAPS = [
    pytest.param({}, DAY, id="a-day-unless-said-otherwise"),
    pytest.param({"overlap": 0}, None, id="none"),
    pytest.param({"overlap": 1}, 1, id="a-second"),
    pytest.param({"overlap": LIMIT}, LIMIT, id="the-longest"),
    pytest.param({"overlap": LIMIT + 1}, "The longest overlap here is 7 days: choose a shorter one.", id="longer"),
]


@pytest.mark.parametrize(("asked", "left"), OVERLAPS)
def test_the_overlap_is_within_the_types_limit(acme, machine, asked, left):
    TokenType.objects.update(longest_overlap=LIMIT)
    old = acme.issue("admin")
    answer = acme.api("admin", "POST", path_of(old, "/rotate"), asked)
    if isinstance(left, str):
        assert (answer.status_code, answer.json()) == (400, problem(400, "invalid", left, errors={"overlap": [left]}))
        assert Secret.objects.count() == 1
        return
    deadline = None if left is None else {"deadline": (AT + timedelta(seconds=left)).isoformat()[:19] + "Z"}
    assert (answer.status_code, answer.json()["rotation"]) == (201, deadline)
    assert works(machine, old) == [left is not None]


@pytest.mark.parametrize("overlap", [-1, "soon", 10**30])
def test_an_overlap_that_is_none_is_named(acme, overlap):
    answer = acme.api("admin", "POST", path_of(acme.issue("admin"), "/rotate"), {"overlap": overlap})
    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["overlap"])


def test_where_the_type_allows_less_than_a_day_that_is_the_default(acme):
    TokenType.objects.update(longest_overlap=HOUR)
    answer = acme.api("admin", "POST", path_of(acme.issue("admin"), "/rotate"))
    assert answer.json()["rotation"] == {"deadline": "2031-05-01T13:00:00Z"}


@pytest.mark.parametrize(("asked", "deadline"), [({}, "2031-05-01T13:00:00Z"), ({"expires_in": 60}, None)])
def test_the_old_secret_never_outlives_the_token(frozen, acme, machine, asked, deadline):
    old = acme.issue("admin", expires_at=AT + timedelta(hours=1))
    answer = acme.api("admin", "POST", path_of(old, "/rotate"), asked)
    made = answer.json()
    expected = deadline or "2031-05-01T12:01:00Z"
    assert (made["expires_at"], made["rotation"]) == (expected, {"deadline": expected})
    after(frozen, HOUR if deadline else 60)
    assert works(machine, old) == [False]


def test_completed_early_the_old_secret_stops(acme, machine):
    old = acme.issue("admin")
    new = rotated(acme, old)
    answer = acme.api("admin", "POST", path_of(old, "/rotate/complete"))
    assert (answer.status_code, answer.json()) == (200, read(acme, old))
    assert answer.json()["secrets"] == [version(new.plaintext[-4:])]
    assert works(machine, old, new) == [False, True]


def test_cancelled_the_new_secret_dies_and_the_old_one_has_no_deadline(frozen, acme, machine):
    old = acme.issue("admin")
    before = read(acme, old)
    new = rotated(acme, old)
    answer = acme.api("admin", "POST", path_of(old, "/rotate/cancel"))
    assert (answer.status_code, answer.json()) == (200, before)
    assert works(machine, old, new) == [True, False]
    after(frozen, 2 * DAY)
    assert works(machine, old, new) == [True, False]


@pytest.mark.parametrize("act", ["complete", "cancel"])
@pytest.mark.parametrize("how", ["never begun", "completed", "cancelled", "past its deadline", "without an overlap"])
def test_where_no_rotation_is_under_way_none_is_completed_or_cancelled(frozen, acme, machine, act, how):
    issued = acme.issue("admin")
    if how != "never begun":
        now = rotated(acme, issued, overlap=0 if how == "without an overlap" else HOUR)
    if how in {"completed", "cancelled"}:
        end = how.removesuffix("ed").removesuffix("l") if how == "cancelled" else "complete"
        assert acme.api("admin", "POST", path_of(issued, f"/rotate/{end}")).status_code == 200
        now = issued if how == "cancelled" else now
    if how == "past its deadline":
        after(frozen, HOUR)
    answer = acme.api("admin", "POST", path_of(issued, f"/rotate/{act}"))
    message = "No rotation is under way: it was completed or cancelled, or its deadline has passed."
    assert (answer.status_code, answer.json()) == (409, problem(409, "no_rotation", message))
    assert works(machine, now if how != "never begun" else issued) == [True]


def test_a_second_rotation_waits_for_the_first_unless_the_secret_is_compromised(acme, machine):
    first = acme.issue("admin", kind="client_credentials")
    second = rotated(acme, first, overlap=HOUR)
    jwt = bearer(jwt_of(machine, second))
    answer = acme.api("admin", "POST", path_of(first, "/rotate"))
    message = (
        "A rotation is under way until 2031-05-01 13:00 UTC: complete or cancel it first. If the secret is "
        "compromised, say so, and every other one stops at once."
    )
    expected = problem(409, "rotation_under_way", message, deadline="2031-05-01T13:00:00Z")
    assert (answer.status_code, answer.json()) == (409, expected)
    assert works(machine, first, second) == [True, True]
    assert machine.get("/api/v1/token/self", headers=jwt).status_code == 200
    third = rotated(acme, first, compromised=True)
    assert works(machine, first, second, third) == [False, False, True]
    assert machine.get("/api/v1/token/self", headers=jwt).status_code == 401
    event = AuditEvent.objects.filter(verb="apitoken.rotated", outcome="done").latest("id")
    assert (event.before["secrets"], event.before["deadline"]) == (
        [first.plaintext[-4:], second.plaintext[-4:]],
        "2031-05-01T13:00:00+00:00",
    )
    assert (event.after["secrets"], event.after["deadline"]) == ([third.plaintext[-4:]], None)
    assert event.after["compromised"] is True


def test_only_as_compromised_does_a_rotation_end_its_jwts(acme, machine):
    old = acme.issue("admin", kind="client_credentials")
    jwt = bearer(jwt_of(machine, old))
    for asked, status in (({"overlap": 0}, 200), ({"compromised": True}, 401)):
        rotated(acme, old, **asked)
        assert machine.get("/api/v1/token/self", headers=jwt).status_code == status


def test_what_is_compromised_gets_no_overlap(acme):
    issued = acme.issue("admin")
    answer = acme.api("admin", "POST", path_of(issued, "/rotate"), {"compromised": True, "overlap": 60})
    message = "What is compromised stops at once: leave the overlap at 0."
    assert (answer.status_code, answer.json()) == (400, problem(400, "invalid", message, errors={"overlap": [message]}))
    assert acme.api("admin", "POST", path_of(issued, "/rotate"), {"compromised": True, "overlap": 0}).status_code == 201


@pytest.mark.parametrize(("minutes", "warns"), [(1, True), (59, True), (60, False), (None, False)])
def test_completing_while_the_old_secret_is_in_use_takes_a_second_word(acme, machine, minutes, warns):
    old = acme.issue("admin")
    rotated(acme, old)
    if minutes is not None:
        oldest = Secret.objects.order_by("id")[:1].values("pk")
        used_at = AT - timedelta(minutes=minutes)
        Secret.objects.filter(pk__in=oldest).update(last_used_at=used_at, last_used_ip="203.0.113.7")
    answer = acme.api("admin", "POST", path_of(old, "/rotate/complete"))
    assert answer.status_code == (409 if warns else 200)
    assert works(machine, old) == [warns]
    if not warns:
        return
    when = f"2031-05-01 {(AT - timedelta(minutes=minutes)):%H:%M}"
    message = (
        f"The old secret was used within the last hour ({when} UTC, from 203.0.113.7): whatever uses it stops when you "
        "complete. Give it the new secret first, or complete all the same."
    )
    used = {"last_used_at": f"{when.replace(' ', 'T')}:00Z", "last_used_ip": "203.0.113.7"}
    assert answer.json() == problem(409, "old_secret_in_use", message, **used)
    assert read(acme, old)["secrets"][0]["last_used_ip"] == "203.0.113.7"
    assert acme.api("admin", "POST", path_of(old, "/rotate/complete"), {"even_if_used": True}).status_code == 200
    assert works(machine, old) == [False]


def test_a_rotation_may_set_a_new_expiry_within_the_types_limit(acme):
    TokenType.objects.update(default_lifetime=10 * DAY, longest_lifetime=30 * DAY, may_never_expire=False)
    issued = acme.issue("admin")
    for asked, status in (({"expires_in": 30 * DAY + 1}, 400), ({"expires_at": None}, 400), ({"expires_in": DAY}, 201)):
        assert acme.api("admin", "POST", path_of(issued, "/rotate"), asked).status_code == status
    assert read(acme, issued)["expires_at"] == "2031-05-02T12:00:00Z"


def test_an_expired_token_is_neither_rotated_nor_extended(frozen, acme, machine):
    issued = acme.issue("admin", expires_at=AT + timedelta(hours=1))
    rotated(acme, issued)
    after(frozen, HOUR)
    message = "This token has expired and can't be revived: make a new one."
    for method, act, asked in (
        ("POST", "/rotate", {}),
        ("POST", "/rotate", {"expires_in": DAY}),
        ("POST", "/rotate", {"compromised": True}),
        ("POST", "/rotate/cancel", None),
        ("PATCH", "", {"expires_in": DAY}),
    ):
        answer = acme.api("admin", method, path_of(issued, act), asked)
        assert (answer.status_code, answer.json()) == (409, problem(409, "expired", message))


def test_past_its_deadline_a_version_makes_room_for_the_next(frozen, acme, machine):
    first = acme.issue("admin")
    second = rotated(acme, first, overlap=HOUR)
    after(frozen, HOUR)
    third = rotated(acme, first, overlap=HOUR)
    assert works(machine, first, second, third) == [False, True, True]
    assert Secret.objects.get(retired_at__isnull=False).retired_at == AT + timedelta(hours=1)


def test_housekeeping_takes_the_slot_of_what_is_past_its_deadline(frozen, acme):
    issued = acme.issue("admin")
    rotated(acme, issued, overlap=HOUR)
    for seconds, held in ((HOUR - 1, 2), (HOUR, 1)):
        after(frozen, seconds)
        housekeeping.run()
        assert Secret.objects.filter(slot__isnull=False).count() == held


def test_the_ten_newest_retired_secrets_are_kept_and_answered_like_strangers(acme, machine):
    issued = [acme.issue("admin")]
    for _ in range(12):
        issued.append(rotated(acme, issued[0], overlap=0))
    assert Secret.objects.filter(slot__isnull=True, digest__isnull=False).count() == 10
    kept = {row.last_four for row in Secret.objects.all()}
    assert kept == {each.plaintext[-4:] for each in issued[-11:]}
    stranger = answer_to(machine, acme.issue("admin", name="Gone"))
    ApiToken.objects.filter(name="Gone").delete()
    assert stranger.status_code == 200
    answers = [answer_to(machine, each) for each in issued[:-1]]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.json()["detail"] for answer in answers}) == 1


def test_a_disabled_token_is_rotated_and_stays_disabled(acme, machine):
    issued = acme.issue("admin")
    acme.api("admin", "POST", path_of(issued, "/disable"))
    new = rotated(acme, issued)
    assert works(machine, issued, new) == [False, False]
    acme.api("admin", "POST", path_of(issued, "/enable"))
    assert works(machine, issued, new) == [True, True]


def test_a_token_without_a_secret_gets_its_first(world, acme):
    issued = acme.issue("admin")
    Secret.objects.all().delete()
    assert read(acme, issued)["secrets"] == []
    made = acme.api("admin", "POST", path_of(issued, "/rotate")).json()
    assert (len(made["secrets"]), made["rotation"]) == (1, None)


def test_a_rotation_sent_twice_makes_one_secret(acme, machine):
    issued, key = acme.issue("admin"), {"Idempotency-Key": "once"}
    first = acme.api("admin", "POST", path_of(issued, "/rotate"), **key)
    second = acme.api("admin", "POST", path_of(issued, "/rotate"), **key)
    assert (first.status_code, second.status_code, second.json()["code"]) == (201, 409, "already_issued")
    assert first.json()["access_token"] not in second.content.decode()
    assert Secret.objects.count() == 2


# Who may.


def given(house, person, *permissions):
    """That person has one role alone, which holds these; of a level that may grant a viewer's."""
    MembershipRole.objects.filter(membership=house.people[person]).delete()
    role = RoleFactory(environment=house.environment, key=f"made-{person}", name=f"Made {person}", level=25)
    hold(role, [*permissions, "apitokens:read", "reports:read", "personal-apitokens:read"])
    hold(role, ["personal-apitokens:create", "personal-apitokens:delete"])
    give_role(house.people[person], role)


ALLOWED = [
    pytest.param([], {"rotate": 403, "complete": 403, "cancel": 403}, id="reader"),
    pytest.param(["apitokens:delete"], {"rotate": 403, "complete": 200, "cancel": 403}, id="stopper"),
    pytest.param(["apitokens:create"], {"rotate": 201, "complete": 403, "cancel": 200}, id="granter"),
]
NEEDED = {"rotate": "apitokens:create", "complete": "apitokens:delete", "cancel": "apitokens:create"}


@pytest.mark.parametrize(("permissions", "statuses"), ALLOWED)
@pytest.mark.parametrize("act", ["rotate", "complete", "cancel"])
def test_to_rotate_and_to_cancel_is_to_grant_and_to_complete_only_stops(acme, permissions, statuses, act):
    given(acme, "member", *permissions)
    issued = acme.issue("admin", permissions=["reports:read"])
    if act != "rotate":
        rotated(acme, issued)
    answer = acme.api("member", "POST", path_of(issued, "/rotate" if act == "rotate" else f"/rotate/{act}"))
    assert answer.status_code == statuses[act], answer.json()
    if answer.status_code == 403:
        assert (answer.json()["code"], answer.json()["permission"]) == ("insufficient_scope", NEEDED[act])


@pytest.mark.parametrize("act", ["/rotate", "/rotate/cancel", "/rotate/complete"])
def test_whoever_could_not_grant_all_it_may_do_makes_it_no_secret_and_keeps_none_alive(acme, act):
    issued = acme.issue("owner", roles=["owner"])
    if act != "/rotate":
        rotated(acme, issued, "owner")
    answer = acme.api("admin", "POST", path_of(issued, act))
    if act == "/rotate/complete":
        assert answer.status_code == 200
    else:
        assert (answer.status_code, answer.json()["code"]) == (403, "role_above_ceiling")


def test_the_secret_of_a_personal_token_is_its_owners_affair(acme):
    issued = acme.issue("member", owner="user")
    for person, status in (("admin", 403), ("member", 201)):
        assert acme.api(person, "POST", path_of(issued, "/rotate")).status_code == status
    for person, act, status in (("admin", "cancel", 403), ("admin", "complete", 200)):
        assert acme.api(person, "POST", path_of(issued, f"/rotate/{act}")).status_code == status


def test_where_the_type_is_switched_off_nothing_is_rotated(acme):
    issued = acme.issue("admin")
    TokenType.objects.update(is_enabled=False)
    answer = acme.api("admin", "POST", path_of(issued, "/rotate"))
    assert (answer.status_code, answer.json()["code"]) == (403, "token_type_disabled")


# By the token itself.


def itself(machine, headers, act="", asked=None):
    path = f"/api/v1/token/self/rotate{act}"
    return machine.post(path, asked or {}, content_type="application/json", headers=headers)


def called(machine, caller, path, asked=None):
    headers = bearer(caller.plaintext)
    return machine.post(f"/api/v1/{path}", asked or {}, content_type="application/json", headers=headers)


@pytest.fixture
def own(acme):
    """A token that may rotate itself; its type makes no tokens."""
    return acme.issue("owner", permissions=SELF)


@pytest.fixture(autouse=True)
def owners_hold_it(request):
    """So that they can grant it."""
    if "acme" not in request.fixturenames:
        return
    acme = request.getfixturevalue("acme")
    for key in ("admin", "owner"):
        hold(acme.role(key), ["token:self:rotate"])


def test_a_token_rotates_completes_and_cancels_itself(acme, machine, own):
    assert not TokenType.objects.get(pk=own.token.token_type_id).may_make_tokens
    answer = itself(machine, bearer(own.plaintext), asked={"overlap": HOUR})
    assert (answer.status_code, answer.json()["rotation"]) == (201, {"deadline": "2031-05-01T13:00:00Z"})
    new = Issued(token=own.token, plaintext=answer.json()["access_token"])
    assert works(machine, own, new) == [True, True]
    cancelled = itself(machine, bearer(own.plaintext), "/cancel")
    assert (cancelled.status_code, cancelled.json()["rotation"]) == (200, None)
    assert works(machine, own, new) == [True, False]
    second = itself(machine, bearer(own.plaintext)).json()["access_token"]
    completed = itself(machine, bearer(second), "/complete", {"even_if_used": True})
    assert completed.status_code == 200
    assert works(machine, own, Issued(token=own.token, plaintext=second)) == [False, True]
    event = AuditEvent.objects.filter(verb="apitoken.rotated").latest("id")
    assert (event.actor_kind, event.actor_id) == ("token", own.token.id)
    assert set(Secret.objects.filter(slot__isnull=False).values_list("shown_to", flat=True)) == {None}


def test_without_the_permission_it_does_not(acme, machine):
    issued = acme.issue("owner", permissions=["reports:read", "apitokens:create"])
    TokenType.objects.update(may_make_tokens=True)
    for act in ("", "/complete", "/cancel"):
        answer = itself(machine, bearer(issued.plaintext), act)
        assert (answer.status_code, answer.json()["permission"]) == (403, "token:self:rotate")


def test_a_person_has_no_token_to_rotate_here(acme):
    answer = acme.api("admin", "POST", "token/self/rotate")
    assert (answer.status_code, answer.json()["code"]) == (403, "needs_token")


def test_by_that_permission_it_touches_no_other_token(acme, machine):
    caller = acme.issue("owner", permissions=[*SELF, "apitokens:read"])
    other = acme.issue("owner", name="Other", permissions=SELF)
    rotated(acme, other, "owner")
    for act, needed in (("", "create"), ("/cancel", "create"), ("/complete", "delete")):
        answer = called(machine, caller, path_of(other, f"/rotate{act}"))
        assert (answer.status_code, answer.json()["permission"]) == (403, f"apitokens:{needed}")
    assert called(machine, caller, path_of(caller, "/rotate")).status_code == 201


def test_it_does_not_prolong_itself(acme, machine):
    expires_at = AT + timedelta(hours=1)
    caller = acme.issue("owner", permissions=[*SELF, "apitokens:read"], expires_at=expires_at)
    refused = itself(machine, bearer(caller.plaintext), asked={"expires_in": DAY})
    assert refused.json()["errors"] == {"expires_in": ["Unknown field."]}
    answer = called(machine, caller, path_of(caller, "/rotate"), {"expires_in": DAY})
    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["expires_at"])
    assert itself(machine, bearer(caller.plaintext)).json()["expires_at"] == "2031-05-01T13:00:00Z"


@pytest.mark.parametrize(("scope", "status"), [("", 201), ("token:self:rotate", 403)])
def test_a_jwt_that_was_narrowed_does_not_become_the_whole_token(acme, machine, scope, status):
    """Whoever was handed it could do less than the secret can."""
    issued = acme.issue("owner", kind="client_credentials", permissions=SELF)
    jwt = jwt_of(machine, issued, **({"scope": scope} if scope else {}))
    answer = itself(machine, bearer(jwt))
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["code"] == "permission_above_ceiling"
        assert Secret.objects.count() == 1


@pytest.mark.parametrize(("bound", "status"), [(False, 201), (True, 403)])
def test_a_jwt_bound_to_a_tenant_does_not_rotate_the_environments_token(acme, machine, bound, status):
    issued = acme.issue_for_environment(kind="client_credentials", roles=["backend"])
    asked = {"tenant": str(acme.tenant.id)} if bound else {}
    answer = itself(machine, bearer(jwt_of(machine, issued, **asked)))
    assert answer.status_code == status
    if bound:
        assert answer.json()["code"] == "out_of_reach"


def test_a_client_rotates_itself_by_basic_where_its_type_accepts_that(acme, machine):
    issued = acme.issue_for_environment(kind="client_credentials", roles=["backend"])
    answer = itself(machine, basic(issued.token.client_id, issued.plaintext))
    assert (answer.status_code, set(answer.json()) & set(SECRET.values())) == (201, {"client_secret"})


def test_a_personal_token_rotates_itself_as_far_as_its_owner_still_holds_all_it_does(acme, machine):
    issued = acme.issue("owner", owner="user", permissions=["token:self:rotate", "billing:manage"])
    assert itself(machine, bearer(issued.plaintext), asked={"overlap": 0}).status_code == 201
    mine = acme.issue("owner", owner="user", name="Two", permissions=["token:self:rotate", "billing:manage"])
    MembershipRole.objects.filter(membership=acme.people["owner"]).update(role=acme.role("admin"))
    assert itself(machine, bearer(mine.plaintext)).json()["permissions"] == ["token:self:rotate"]
    Membership.objects.filter(pk=acme.people["owner"].pk).update(suspended_at=AT)
    assert itself(machine, bearer(mine.plaintext)).status_code == 401
