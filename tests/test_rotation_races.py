"""R7 under concurrency, with real transactions: never more than two live versions, and never none."""

from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from apitokens import versions
from apitokens.models import ApiToken, Secret
from audit.models import AuditEvent
from tests.cast import bearer
from tests.racing import Call, held, ready, wait_for_blocked

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]
HOUR = 3600


@pytest.fixture
def issued(acme):
    return acme.issue("admin")


def path_of(issued, act=""):
    return f"tokens/{issued.token.token_id}/rotate{act}"


def works(machine, plaintext):
    return machine.get("/api/v1/token/self", headers=bearer(plaintext)).status_code == 200


def live():
    return Secret.objects.filter(slot__isnull=False).count()


def test_of_two_rotations_at_once_the_second_finds_the_first_under_way(acme, machine, issued):
    calls = [ready(acme, person, "post", path_of(issued), {"overlap": HOUR}) for person in ("admin", "owner")]
    with held(acme.tenant):
        rotating = [Call(call) for call in calls]
        wait_for_blocked(2)
    answers = sorted((each.result() for each in rotating), key=lambda answer: answer.status_code)
    assert [answer.status_code for answer in answers] == [201, 409]
    assert answers[1].json()["code"] == "rotation_under_way"
    assert live() == 2
    assert works(machine, issued.plaintext)
    assert works(machine, answers[0].json()["access_token"])


@pytest.mark.parametrize("overlap", [0, HOUR])
def test_of_two_rotations_without_an_overlap_the_last_ones_secret_works(acme, machine, issued, overlap):
    """Whichever comes last; with an overlap, as compromised."""
    asked = {"overlap": 0} if overlap == 0 else {"compromised": True}
    calls = [ready(acme, person, "post", path_of(issued), asked) for person in ("admin", "owner")]
    with held(acme.tenant):
        rotating = [Call(call) for call in calls]
        wait_for_blocked(2)
    made = [each.result().json()["access_token"] for each in rotating]
    assert live() == 1
    assert [works(machine, issued.plaintext), sum(works(machine, plaintext) for plaintext in made)] == [False, 1]


@pytest.mark.parametrize("first", ["rotate", "delete"])
def test_a_rotation_beside_a_deletion_leaves_nothing_that_works(acme, machine, issued, first):
    acts = {
        "rotate": ready(acme, "admin", "post", path_of(issued)),
        "delete": ready(acme, "owner", "delete", f"tokens/{issued.token.token_id}"),
    }
    second = "delete" if first == "rotate" else "rotate"
    with held(acme.tenant):
        calls = {first: Call(acts[first])}
        wait_for_blocked(1)
        calls[second] = Call(acts[second])
        wait_for_blocked(2)
    statuses = {name: call.result().status_code for name, call in calls.items()}
    assert statuses == {"rotate": 201 if first == "rotate" else 404, "delete": 204}
    assert (ApiToken.objects.count(), Secret.objects.count()) == (0, 0)
    assert not works(machine, issued.plaintext)


@pytest.mark.parametrize("act", ["complete", "cancel"])
def test_a_rotation_is_not_ended_twice_while_housekeeping_ends_it(acme, machine, issued, act):
    """A server whose clock is ahead takes the old version's slot: to cancel by what was read before leaves none."""
    new = acme.api("admin", "POST", path_of(issued), {"overlap": HOUR}).json()["access_token"]
    call = ready(acme, "admin", "post", path_of(issued, f"/{act}"))
    with transaction.atomic():
        assert versions.retire_overdue(at=timezone.now() + timedelta(hours=2)) == 1
        ending = Call(call)
        wait_for_blocked(1)
    answer = ending.result()
    assert (answer.status_code, answer.json()["code"]) == (409, "no_rotation")
    assert [works(machine, issued.plaintext), works(machine, new)] == [False, True]
    assert not AuditEvent.objects.filter(verb__startswith="apitoken.rotation_", outcome="done").exists()


@pytest.mark.parametrize("both", [("complete", "cancel"), ("complete", "complete"), ("cancel", "cancel")])
def test_a_rotation_ends_once(acme, machine, issued, both):
    new = acme.api("admin", "POST", path_of(issued), {"overlap": HOUR}).json()["access_token"]
    calls = [
        ready(acme, person, "post", path_of(issued, f"/{act}"))
        for person, act in zip(("admin", "owner"), both, strict=True)
    ]
    with held(acme.tenant):
        ending = [Call(call) for call in calls]
        wait_for_blocked(2)
    assert sorted(each.result().status_code for each in ending) == [200, 409]
    assert live() == 1
    assert [works(machine, issued.plaintext), works(machine, new)].count(True) == 1
