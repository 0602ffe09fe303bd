"""The Token Status Lists (draft-ietf-oauth-status-list): what a place says, who may keep a list how long, and races.

A place says of a JWT what our own API says of it, in every world in which queryset, policy and HTTP have to agree.
"""

import gzip
import zlib
from base64 import urlsafe_b64decode
from contextlib import contextmanager, suppress
from datetime import timedelta

import jwt
import pytest
import time_machine
from django.db import OperationalError, connection, transaction
from django.test import Client
from django.utils import timezone

from apitokens import keyring, policy, status_list
from apitokens.models import ApiToken, SigningKey, StatusCounter, StatusSlot, TokenType
from tenants.models import Environment, Membership, Tenant
from tests.cast import bearer, claims_of, jwt_of
from tests.racing import Call, Undone, wait_for_blocked
from tests.status_reader import INVALID, MEDIA_TYPE, VALID, HTTPCache, NoStatement, Reader, status_at, verified
from tests.test_queryset_agrees import WORLDS

SELF = "/api/v1/token/self"
# Tomorrow, so that nothing which a test makes has expired by then.
NOON = (timezone.now() + timedelta(days=1)).replace(hour=12, minute=0, second=0, microsecond=0)


@pytest.fixture(autouse=True)
def no_photographs():
    """Each test begins with a process that has kept none."""
    status_list._kept.clear()


def path_of(environment, number=0):
    return f"/e/{environment.slug}/status/{number}"


def asked(machine):
    """How a reader's cache asks our server."""
    return lambda uri, headers: machine.get("/" + uri.split("/", 3)[3], headers=headers)


def key_set(machine, environment):
    return jwt.PyJWKSet.from_json(machine.get(f"/e/{environment.slug}/jwks.json").content.decode())


def place_in(access):
    return claims_of(access)["status"]["status_list"]


def octets_of(text):
    lst = claims_of(text)["status_list"]["lst"]
    return zlib.decompress(urlsafe_b64decode(lst + "=="))


def read_now(machine, access):
    """The status of the JWT to a reader who has kept nothing, of a list that nobody has kept."""
    status_list._kept.clear()
    place = place_in(access)
    answer = asked(machine)(place["uri"], {})
    assert answer.status_code == 200
    return status_at(claims_of(answer.content.decode()), place["idx"])


# What is served


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "EdDSA"])
def test_a_list_is_a_signed_jwt_with_every_claim_and_no_other(world, acme, machine, algorithm):
    environment = world.production
    SigningKey.objects.filter(environment=environment).delete()
    Environment.objects.filter(pk=environment.pk).update(signing_algorithm=algorithm)
    environment.refresh_from_db()
    keyring.create_first_key(environment, at=timezone.now())
    access = jwt_of(machine, acme.issue("admin", kind="client_credentials"))
    at = timezone.now().replace(microsecond=900_000)
    with time_machine.travel(at, tick=False):
        answer = machine.get(path_of(environment))
    text = answer.content.decode()
    uri = f"http://localhost:8000/e/{environment.slug}/status/0"
    (key,) = key_set(machine, environment).keys
    assert jwt.get_unverified_header(text) == {"alg": algorithm, "kid": key.key_id, "typ": "statuslist+jwt"}
    claims = verified(text, uri=uri, issuer=environment.issuer, keys=key_set(machine, environment))
    assert claims == {
        "iss": environment.issuer,
        "sub": uri,
        "iat": int(at.timestamp()),
        "exp": int(at.timestamp()) + 180,
        "ttl": 15,
        "status_list": {"bits": 1, "lst": claims["status_list"]["lst"]},
    }
    assert octets_of(text) == bytes(2**14)
    assert place_in(access) == {"idx": 0, "uri": uri}
    assert (status_at(claims, 0), status_at(claims, 2**17 - 1)) == (VALID, VALID)
    with pytest.raises(NoStatement):
        status_at(claims, 2**17)
    kept = {name: answer.headers[name] for name in ("Content-Type", "Cache-Control", "Access-Control-Allow-Origin")}
    assert kept == {
        "Content-Type": MEDIA_TYPE,
        "Cache-Control": "public, max-age=15",
        "Access-Control-Allow-Origin": "*",
    }
    assert "Accept-Encoding" in answer.headers["Vary"]


def test_bits_and_octets_are_in_the_order_of_the_specifications_example():
    """Section 4.1: sixteen tokens, of which these are valid; its list ends there, ours goes on with zeros."""
    valid = [1, 2, 6, 10, 11, 12, 14]
    assert status_list.bits_of(valid, below=16)[:3].hex() == "b9a300"
    assert status_list.bits_of([index + 2**17 for index in valid], below=16, first=2**17)[:3].hex() == "b9a300"
    example = {"status_list": {"bits": 1, "lst": "eNrbuRgAAhcBXQ"}}
    assert [index for index in range(16) if status_at(example, index) == VALID] == valid


@pytest.mark.parametrize(("below", "octets"), [(0, "0000"), (1, "0100"), (7, "7f00"), (8, "ff00"), (9, "ff01")])
def test_below_the_mark_what_is_not_valid_is_invalid_and_above_it_everything_is_valid(below, octets):
    assert status_list.bits_of([], below=below)[:2].hex() == octets


def test_a_list_that_is_full_is_invalid_to_its_last_bit():
    assert status_list.bits_of([], below=status_list.LIST_SIZE) == b"\xff" * 2**14


def test_it_is_sent_compressed_to_who_asks_for_it(acme, machine):
    plain = machine.get(path_of(acme.environment))
    small = machine.get(path_of(acme.environment), headers={"Accept-Encoding": "gzip"})
    assert (small.headers["Content-Encoding"], small.headers["Content-Type"]) == ("gzip", MEDIA_TYPE)
    assert gzip.decompress(small.content) == plain.content
    assert small.headers["ETag"] == plain.headers["ETag"]


def test_the_past_is_not_kept(acme, machine):
    """Section 8.4: a server that does not support `time` says 501."""
    assert machine.get(f"{path_of(acme.environment)}?time=1686925000").status_code == 501


@pytest.mark.parametrize("number", [1, 2, 10**30])
def test_a_list_that_is_not_there_and_an_environment_that_never_was_are_404(acme, machine, number):
    assert machine.get(path_of(acme.environment)).status_code == 200
    assert machine.get(path_of(acme.environment, number)).status_code == 404
    assert machine.get("/e/never/status/0").status_code == 404


def test_the_second_list_is_there_as_soon_as_the_first_is_full_and_a_jwt_names_it(acme, machine):
    StatusCounter.objects.create(environment=acme.environment, next_index=2**17 - 1)
    last, first = (
        place_in(jwt_of(machine, acme.issue("admin", kind="client_credentials", name=name))) for name in ("A", "B")
    )
    assert last == {"idx": 2**17 - 1, "uri": f"{acme.environment.issuer}/status/0"}
    assert first == {"idx": 0, "uri": f"{acme.environment.issuer}/status/1"}
    ApiToken.objects.filter(name="A").update(disabled_at=timezone.now())
    lists = [claims_of(machine.get(path_of(acme.environment, n)).content.decode()) for n in (0, 1)]
    assert [status_at(lists[0], index) for index in (0, 2**17 - 2, 2**17 - 1)] == [INVALID] * 3
    assert [status_at(lists[1], index) for index in (0, 1)] == [VALID, VALID]
    assert machine.get(path_of(acme.environment, 2)).status_code == 404


def test_it_takes_no_other_method(acme, machine):
    assert machine.post(path_of(acme.environment)).status_code == 405
    assert machine.head(path_of(acme.environment)).status_code == 200


def test_without_its_database_the_list_is_503_even_just_after_it_was_served(acme, machine):
    assert machine.get(path_of(acme.environment)).status_code == 200

    def fail(*_):
        raise OperationalError("server closed the connection unexpectedly")

    with connection.execute_wrapper(fail):
        answer = machine.get(path_of(acme.environment))
    assert (answer.status_code, answer["Retry-After"], answer["Cache-Control"]) == (503, "5", "no-store")


def test_without_a_key_that_signs_the_list_is_503_even_just_after_it_was_served(acme, machine):
    assert machine.get(path_of(acme.environment)).status_code == 200
    SigningKey.objects.filter(environment=acme.environment).update(state="retired", ended_at=timezone.now())
    assert machine.get(path_of(acme.environment)).status_code == 503


def test_a_list_is_signed_by_the_key_that_is_active_now(acme, machine):
    """A process keeps documents, never a key's state (R11)."""
    ring = SigningKey.objects.filter(environment=acme.environment)
    before = jwt.get_unverified_header(machine.get(path_of(acme.environment)).content.decode())
    ring.update(state="compromised", ended_at=timezone.now())
    successor = keyring.create_first_key(acme.environment, at=timezone.now())
    after = jwt.get_unverified_header(machine.get(path_of(acme.environment)).content.decode())
    assert before["kid"] != after["kid"] == successor.kid


def test_a_suspended_and_a_deleted_environment_say_that_everything_has_ended_until_nothing_is_left(acme, machine):
    """Somebody who can't get a list might go on with an old one."""
    access = jwt_of(machine, acme.issue("admin", kind="client_credentials"))
    rows = Environment.objects.filter(pk=acme.environment.pk)
    assert read_now(machine, access) == VALID
    rows.update(suspended_at=timezone.now())
    assert read_now(machine, access) == INVALID
    rows.update(suspended_at=None, deleted_at=timezone.now())
    assert read_now(machine, access) == INVALID


def test_two_environments_share_no_places(world, machine):
    one, other = (
        place_in(jwt_of(machine, house.issue("admin", kind="client_credentials")))
        for house in (world.acme, world.acme_staging)
    )
    assert (one["idx"], other["idx"]) == (0, 0)
    assert one["uri"] != other["uri"]


# Who keeps it how long


def test_a_process_keeps_a_list_for_five_seconds_which_count_against_its_max_age(acme, machine):
    issued = acme.issue("admin", kind="client_credentials")
    seen = []
    with time_machine.travel(NOON, tick=False) as clock:
        jwt_of(machine, issued)
        for seconds in (0, 2.5, 2.4, 0.1):
            clock.shift(seconds)
            answer = machine.get(path_of(acme.environment))
            seen.append((answer.headers["Cache-Control"], octets_of(answer.content.decode())[0]))
            ApiToken.objects.filter(pk=issued.token.pk).update(disabled_at=NOON)
    assert seen == [
        ("public, max-age=15", VALID),
        ("public, max-age=12", VALID),
        ("public, max-age=10", VALID),
        ("public, max-age=15", INVALID),
    ]


def test_every_process_gives_the_same_content_the_same_etag(acme, machine):
    jwt_of(machine, acme.issue("admin", kind="client_credentials"))
    answers = []
    for seconds in (0, 7, 59):
        status_list._kept.clear()
        with time_machine.travel(NOON + timedelta(seconds=seconds), tick=False):
            answers.append(machine.get(path_of(acme.environment)))
    assert len({answer.headers["ETag"] for answer in answers}) == 1
    assert len({octets_of(answer.content.decode()) for answer in answers}) == 1
    with time_machine.travel(NOON + timedelta(seconds=59), tick=False):
        again = machine.get(path_of(acme.environment), headers={"If-None-Match": answers[0].headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["Cache-Control"] == "public, max-age=15"


def test_the_etag_is_another_when_a_bit_is_another_or_the_key(acme, machine):
    issued = acme.issue("admin", kind="client_credentials")
    jwt_of(machine, issued)
    etags = []
    with time_machine.travel(NOON, tick=False):
        for change in (
            lambda: None,
            lambda: ApiToken.objects.filter(pk=issued.token.pk).update(generation=1),
            lambda: (
                SigningKey.objects.filter(environment=acme.environment).update(state="compromised", ended_at=NOON),
                keyring.create_first_key(acme.environment, at=NOON),
            ),
        ):
            change()
            status_list._kept.clear()
            etags.append(machine.get(path_of(acme.environment)).headers["ETag"])
    assert len(set(etags)) == 3


def test_who_only_hears_that_nothing_has_changed_never_holds_an_expired_list(acme, machine):
    """Ten minutes of a cache that always asks with its ETag, and a reader behind it that needs a list each second."""
    access = jwt_of(machine, acme.issue("admin", kind="client_credentials"))
    keys = key_set(machine, acme.environment)
    answers = []

    def ask(uri, headers):
        answers.append(asked(machine)(uri, headers))
        return answers[-1]

    cache = HTTPCache(ask)
    with time_machine.travel(NOON + timedelta(seconds=0.7), tick=False) as clock:
        access = jwt_of(machine, acme.issue("admin", kind="client_credentials", name="Later"))
        reader = Reader(cache.get, keys)
        left = []
        for _ in range(600):
            assert reader.status(access) == VALID
            (held, _), now = reader.kept[place_in(access)["uri"]], timezone.now().timestamp()
            left.append(held["exp"] - now)
            clock.shift(1)
    assert {answer.status_code for answer in answers} == {200, 304}
    assert min(left) > 60  # so much may a reader's clock be ahead of ours
    assert len(answers) <= 600 / 15 + 1


# What a place says


def test_a_jwts_place_is_that_of_its_token_its_tenant_and_its_generation(world, machine):
    acme, globex = world.acme, world.globex
    tenants = acme.issue("admin", kind="client_credentials")
    backend = acme.issue_for_environment(kind="client_credentials")
    asks = {
        "tenant's": lambda: jwt_of(machine, tenants),
        "tenant's, narrowed": lambda: jwt_of(machine, tenants, scope="reports:read"),
        "environment's": lambda: jwt_of(machine, backend),
        "for acme": lambda: jwt_of(machine, backend, tenant=str(acme.tenant.id)),
        "for globex": lambda: jwt_of(machine, backend, tenant=str(globex.tenant.id)),
    }
    first = {name: place_in(ask())["idx"] for name, ask in asks.items()}
    assert first == {"tenant's": 0, "tenant's, narrowed": 0, "environment's": 1, "for acme": 2, "for globex": 3}
    assert {name: place_in(ask())["idx"] for name, ask in asks.items()} == first
    Tenant.objects.filter(pk=acme.tenant.pk).update(generation=1)
    second = {name: place_in(ask())["idx"] for name, ask in asks.items()}
    assert second == {"tenant's": 4, "tenant's, narrowed": 4, "environment's": 1, "for acme": 5, "for globex": 3}
    rows = StatusSlot.objects.order_by("index").values_list("token_id", "tenant_id", "generation")
    assert list(rows) == [
        (tenants.token.id, acme.tenant.id, 0),
        (backend.token.id, None, 0),
        (backend.token.id, acme.tenant.id, 0),
        (backend.token.id, globex.tenant.id, 0),
        (tenants.token.id, acme.tenant.id, 1),
        (backend.token.id, acme.tenant.id, 1),
    ]
    assert StatusCounter.objects.get().next_index == 6


def test_a_jwt_made_a_second_ago_is_not_refused_by_a_list_from_before(acme, machine):
    """The list was taken before its place was; and again while other places below it were dead."""
    keys = key_set(machine, acme.environment)
    for number in range(10):
        reader = Reader(HTTPCache(asked(machine)).get, keys)
        if number:
            old = jwt_of(machine, acme.issue("admin", kind="client_credentials", name=f"Old {number}"))
            ApiToken.objects.filter(name=f"Old {number}").delete()
            status_list._kept.clear()
            assert reader.status(old) == INVALID
        else:
            machine.get(path_of(acme.environment))
        assert reader.status(jwt_of(machine, acme.issue("admin", kind="client_credentials", name=f"{number}"))) == VALID


def test_a_slot_that_is_not_there_below_the_mark_is_invalid(acme, machine):
    access = jwt_of(machine, acme.issue("admin", kind="client_credentials"))
    StatusSlot.objects.all().delete()
    assert read_now(machine, access) == INVALID


def test_an_index_is_never_given_again_not_even_when_every_slot_is_gone(acme, machine):
    issued = acme.issue("admin", kind="client_credentials")
    jwt_of(machine, issued)
    StatusSlot.objects.all().delete()
    assert place_in(jwt_of(machine, issued))["idx"] == 1


def test_known_places_cost_no_query_and_those_of_a_named_tenant_one(world, machine, django_assert_num_queries):
    acme = world.acme
    tenants, backend = (
        acme.issue("admin", kind="client_credentials"),
        acme.issue_for_environment(kind="client_credentials"),
    )
    asks = [(tenants, {}), (backend, {}), (backend, {"tenant": str(acme.tenant.id)})]
    for issued, asked_for in asks:
        jwt_of(machine, issued, **asked_for)
    for token, tenant, queries in (
        (tenants.token, acme.tenant, 0),
        (backend.token, None, 0),
        (backend.token, acme.tenant, 1),
    ):
        row = ApiToken.objects.with_standing().get(pk=token.pk)
        with django_assert_num_queries(queries):
            status_list.place_of(row, tenant, generation=policy.generation(row, tenant))


@pytest.fixture
def jwts(world, machine):
    """By a name, a JWT of every kind of client there is, bound and unbound; each is for us by both our names."""
    acme, issuer = world.acme, world.production.issuer
    for_us = {"resource": f"{issuer}&resource=https://api.{world.production.slug}.example"}
    of_acme = {
        "roles": {"roles": ["member"]},
        "two roles": {"roles": ["member", "viewer"]},
        "picked": {"permissions": ["reports:read", "reports:write"]},
        "personal roles": {"owner": "user", "roles": ["member"]},
        "personal picked": {"owner": "user", "permissions": ["reports:write"]},
        "personal follower": {"owner": "user"},
        "expiring": {"roles": ["member"], "expires_at": timezone.now() + timedelta(hours=1)},
    }
    clients = {
        name: acme.issue("admin", name=name, kind="client_credentials", **granted) for name, granted in of_acme.items()
    }
    made = {name: jwt_of(machine, issued, **for_us) for name, issued in clients.items()}
    backend = acme.issue_for_environment(name="Backend", kind="client_credentials")
    made["environment's"] = jwt_of(machine, backend, **for_us)
    for house in (world.acme, world.globex):
        made[f"environment's for {house.tenant.name}"] = jwt_of(machine, backend, tenant=str(house.tenant.id), **for_us)
    return made


RAISED = {
    f"{name} raised": lambda w, rows=rows, pick=pick: rows.filter(pk=pick(w).pk).update(generation=3)
    for name, rows, pick in (
        ("environment's generation", Environment.objects, lambda w: w.production),
        ("other environment's generation", Environment.objects, lambda w: w.staging),
        ("tenant's generation", Tenant.objects, lambda w: w.acme.tenant),
        ("other tenant's generation", Tenant.objects, lambda w: w.globex.tenant),
        ("owner's generation", Membership.objects, lambda w: w.acme.people["admin"]),
        ("other member's generation", Membership.objects, lambda w: w.acme.people["owner"]),
    )
}
MORE_WORLDS = {
    **RAISED,
    "a type's generation raised": lambda w: TokenType.objects.filter(owner="tenant").update(generation=1),
    "a token's generation raised": lambda w: ApiToken.objects.filter(name="picked").update(generation=1),
    "one up, one not": lambda w: (
        Tenant.objects.filter(pk=w.globex.tenant.pk).update(generation=1),
        Tenant.objects.filter(pk=w.acme.tenant.pk).update(suspended_at=timezone.now()),
    ),
    "all tokens deleted": lambda w: ApiToken.objects.all().delete(),
}
# Of an expired JWT nothing else matters: these live for thirty days, so that only their tokens and what is above end.
LIFETIME = 30 * 24 * 3600


@pytest.fixture
def long_lived(world):
    TokenType.objects.update(jwt_lifetime=LIFETIME)


@pytest.mark.usefixtures("long_lived")
def test_a_place_says_what_our_own_api_says_in_every_world(world, jwts, machine):
    seen, differ = {}, {}
    later = timezone.now() + timedelta(hours=2)
    changes = {**WORLDS, **MORE_WORLDS, "two hours later": lambda w: None}
    for name, change in changes.items():
        at = later if name == "two hours later" else timezone.now()
        with transaction.atomic(), time_machine.travel(at, tick=False):
            change(world)
            status_list._kept.clear()
            listed = claims_of(machine.get(path_of(world.production)).content.decode())
            by_list = {label: status_at(listed, place_in(text)["idx"]) for label, text in jwts.items()}
            answers = {label: machine.get(SELF, headers=bearer(text)) for label, text in jwts.items()}
            by_api = {label: {200: VALID, 401: INVALID}[answer.status_code] for label, answer in answers.items()}
            transaction.set_rollback(True)
        if by_list != by_api:
            differ[name] = {label for label in jwts if by_list[label] != by_api[label]}
        seen[name] = {label for label, status in by_api.items() if status == INVALID}
    assert differ == {}
    assert seen["as it was"] == set()
    assert seen["two hours later"] == {"expiring"}
    assert seen["environment suspended"] == seen["all tokens deleted"] == set(jwts)
    assert seen["tenant suspended"] == set(jwts) - {"environment's", "environment's for Globex"}
    assert seen["one up, one not"] == set(jwts) - {"environment's"}


def test_a_list_takes_the_same_few_queries_however_many_places_it_has(acme, machine, django_assert_num_queries):
    for number in range(12):
        jwt_of(machine, acme.issue("admin", kind="client_credentials", name=f"{number}"))
        status_list._kept.clear()
        if number in {1, 11}:
            with django_assert_num_queries(4):
                machine.get(path_of(acme.environment))
    with django_assert_num_queries(3):
        machine.get(path_of(acme.environment))


# Two at once


def _grants(*clients):
    """The calls by which the clients get their first JWTs, to be made beside each other."""
    return [lambda issued=issued: place_in(jwt_of(Client(), issued))["idx"] for issued in clients]


@contextmanager
def counter_held(environment, *, is_new, undone):
    """A transaction that holds the environment's counter, or has just made it; committed at the end, or undone."""
    if not is_new:
        StatusCounter.objects.create(environment=environment, next_index=5)
    with suppress(Undone), transaction.atomic():
        if is_new:
            StatusCounter.objects.create(environment=environment, next_index=5)
        StatusCounter.objects.select_for_update().get(environment=environment)
        yield
        if undone:
            raise Undone


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("is_new", "undone", "mark"), [(False, False, 5), (True, False, 5), (True, True, 0)])
def test_who_grants_first_for_a_place_makes_it_and_the_other_finds_it(acme, is_new, undone, mark):
    issued = acme.issue("admin", kind="client_credentials")
    with counter_held(acme.environment, is_new=is_new, undone=undone):
        calls = [Call(act) for act in _grants(issued, issued)]
        wait_for_blocked(2)
    assert [call.result() for call in calls] == [mark, mark]
    assert StatusSlot.objects.count() == 1
    assert StatusCounter.objects.get().next_index == mark + 1


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("is_new", "undone", "mark"), [(False, False, 5), (True, False, 5), (True, True, 0)])
def test_two_places_made_at_once_have_two_indexes(acme, is_new, undone, mark):
    clients = [acme.issue("admin", kind="client_credentials", name=name) for name in ("A", "B")]
    with counter_held(acme.environment, is_new=is_new, undone=undone):
        calls = [Call(act) for act in _grants(*clients)]
        wait_for_blocked(2)
    assert {call.result() for call in calls} == {mark, mark + 1}
    assert StatusCounter.objects.get().next_index == mark + 2


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_many_grants_at_once_leave_no_gap_and_share_no_place(acme):
    clients = [acme.issue("admin", kind="client_credentials", name=f"{number}") for number in range(6)]
    calls = [Call(act) for act in _grants(*clients * 3)]
    indexes = [call.result() for call in calls]
    assert indexes[:6] == indexes[6:12] == indexes[12:]
    assert sorted(indexes[:6]) == list(range(6))
    assert StatusCounter.objects.get().next_index == StatusSlot.objects.count() == 6


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_seen", [True, False])
def test_a_place_that_is_made_while_a_list_is_taken_is_above_its_mark(acme, machine, is_seen):
    """The mark is read before the slots: what is made between the two is VALID, whether its slot is seen or not."""
    jwt_of(machine, acme.issue("admin", kind="client_credentials"))
    making, made = acme.issue("admin", kind="client_credentials", name="Made meanwhile"), []

    def grant_meanwhile(execute, sql, params, many, context):
        is_of_slots = "apitokens_statusslot" in sql and not made
        if is_of_slots and is_seen:
            made.append(Call(*_grants(making)).result())
        answer = execute(sql, params, many, context)
        if is_of_slots and not is_seen:
            made.append(Call(*_grants(making)).result())
        return answer

    with connection.execute_wrapper(grant_meanwhile):
        listed = claims_of(machine.get(path_of(acme.environment)).content.decode())
    assert made == [1]
    assert [status_at(listed, index) for index in (0, 1, 2)] == [VALID] * 3
