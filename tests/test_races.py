"""R3 under concurrency, with real transactions: whichever comes second sees what the first has done.

Each test waits until the database itself says that the others wait for a lock; nothing depends on how long things take.
"""

import pytest

from apitokens.models import ApiToken, TokenType
from apitokens.setup import give_role, hold
from audit.models import AuditEvent
from tenants.models import Membership, MembershipRole, Role, RolePermission, Tenant
from tests.racing import Call, held, issue, ready, wait_for_blocked

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]


def demote(membership, *keys):
    MembershipRole.objects.filter(membership=membership).delete()
    for key in keys:
        give_role(membership, Role.objects.get(environment=membership.environment, tenant=None, key=key))


DEMOTIONS = [
    pytest.param(lambda m: demote(m, "member"), "role_above_ceiling", id="demoted"),
    pytest.param(lambda m: demote(m, "viewer"), "insufficient_scope", id="may-make-none"),
    pytest.param(demote, "insufficient_scope", id="without-a-role"),
    pytest.param(
        lambda m: Membership.objects.filter(pk=m.pk).update(suspended_at=m.created_at),
        "insufficient_scope",
        id="suspended",
    ),
    pytest.param(
        lambda m: Membership.objects.filter(pk=m.pk).update(ended_at=m.created_at), "insufficient_scope", id="left"
    ),
]


@pytest.mark.parametrize(("change", "code"), DEMOTIONS)
@pytest.mark.parametrize("undone", [False, True])
def test_a_demotion_that_comes_first_wins_over_a_grant_that_has_begun(acme, change, code, undone):
    ada, call = acme.people["admin"], issue(acme, roles=["admin"])
    with held(ada, undone=undone):
        change(ada)
        granting = Call(call)
        wait_for_blocked(1)
    answer = granting.result()
    assert answer.status_code == (201 if undone else 403)
    assert ApiToken.objects.count() == (1 if undone else 0)
    refusals = AuditEvent.objects.filter(actor_id=ada.user_id, outcome="refused").values_list("reason", flat=True)
    assert list(refusals) == ([] if undone else [code])


def test_a_grant_that_comes_first_keeps_the_demotion_waiting(acme):
    """The grant holds the grantor; it waits itself for the role it hands out, which somebody else holds."""
    ada, call = acme.people["admin"], issue(acme, roles=["viewer"])

    def demotion():
        with held(ada):
            demote(ada, "viewer")
        return ApiToken.objects.count()

    with held(acme.role("viewer")):
        granting = Call(call)
        wait_for_blocked(1)
        demoting = Call(demotion)
        wait_for_blocked(2)
    assert granting.result().status_code == 201
    assert demoting.result() == 1
    token = ApiToken.objects.get()
    assert (token.grantor_level, [role.key for role in ada.roles.all()]) == (30, ["viewer"])


ROLE_EDITS = [
    pytest.param(lambda role: Role.objects.filter(pk=role.pk).update(level=31), "role_above_ceiling", id="raised"),
    pytest.param(lambda role: hold(role, ["billing:manage"]), "role_above_ceiling", id="widened"),
    pytest.param(lambda role: Role.objects.filter(pk=role.pk).update(level=30), None, id="raised-to-the-ceiling"),
    pytest.param(lambda role: hold(role, ["reports:write"]), None, id="widened-within-the-ceiling"),
]


@pytest.mark.parametrize(("change", "code"), ROLE_EDITS)
@pytest.mark.parametrize("undone", [False, True])
def test_an_edit_of_the_role_that_comes_first_is_what_the_ceiling_sees(acme, change, code, undone):
    role, call = acme.role("viewer"), issue(acme, roles=["viewer"])
    with held(role, undone=undone):
        change(role)
        granting = Call(call)
        wait_for_blocked(1)
    answer = granting.result()
    refused = bool(code) and not undone
    assert answer.status_code == (403 if refused else 201)
    assert answer.json().get("code") == (code if refused else None)
    assert ApiToken.objects.count() == (0 if refused else 1)


@pytest.mark.parametrize("undone", [False, True])
def test_a_permission_that_an_edit_takes_from_the_role_first_is_not_granted(acme, undone):
    role, call = acme.role("viewer"), issue(acme, roles=["viewer"])
    with held(role, undone=undone):
        RolePermission.objects.filter(role=role, permission__key="reports:read").delete()
        granting = Call(call)
        wait_for_blocked(1)
    assert granting.result().status_code == 201
    assert ("reports:read" in ApiToken.objects.get().granted) == undone


@pytest.mark.parametrize("undone", [False, True])
def test_a_permission_that_an_edit_takes_from_the_grantor_first_is_one_it_lacks(acme, undone):
    role, call = acme.role("admin"), issue(acme, roles=["viewer"])
    with held(role, undone=undone):
        RolePermission.objects.filter(role=role, permission__key="reports:read").delete()
        granting = Call(call)
        wait_for_blocked(1)
    assert granting.result().status_code == (201 if undone else 403)
    assert ApiToken.objects.count() == undone


def test_of_eight_at_once_no_more_than_the_quota_are_made(acme):
    TokenType.objects.update(quota=3)
    calls = [issue(acme, name=f"CI {number}", roles=["viewer"]) for number in range(8)]
    with held(acme.tenant):
        granting = [Call(call) for call in calls]
        wait_for_blocked(8)
    answers = [each.result() for each in granting]
    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [409] * 5
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"quota_reached"}
    assert ApiToken.objects.count() == 3


def test_of_two_with_one_name_one_is_made(acme):
    calls = [issue(acme, name=name, roles=["viewer"]) for name in ("CI", "ci")]
    with held(acme.tenant):
        granting = [Call(call) for call in calls]
        wait_for_blocked(2)
    answers = [each.result() for each in granting]
    assert sorted(answer.status_code for answer in answers) == [201, 409]
    assert [answer.json().get("code") for answer in answers if answer.status_code == 409] == ["name_taken"]
    assert ApiToken.objects.count() == 1


def test_of_two_with_one_idempotency_key_one_is_made_and_the_other_told_which(acme):
    calls = [issue(acme, name=name, roles=["viewer"], nonce="the same") for name in ("One", "Two")]
    with held(acme.tenant):
        granting = [Call(call) for call in calls]
        wait_for_blocked(2)
    answers = [each.result() for each in granting]
    made, told = sorted(answers, key=lambda answer: answer.status_code)
    assert (made.status_code, told.status_code) == (201, 409)
    assert (told.json()["code"], told.json()["token"]) == ("already_issued", made.json()["id"])
    assert ApiToken.objects.count() == 1


def test_of_two_deletions_one_deletes_and_the_other_finds_nothing(acme):
    token = acme.issue("admin").token
    calls = [ready(acme, person, "delete", f"tokens/{token.token_id}") for person in ("admin", "owner")]
    with held(acme.tenant):
        deleting = [Call(call) for call in calls]
        wait_for_blocked(2)
    assert sorted(each.result().status_code for each in deleting) == [204, 404]
    assert AuditEvent.objects.filter(target_id=token.id, verb="apitoken.deleted").count() == 1
    assert not ApiToken.objects.exists()


@pytest.mark.parametrize(
    ("method", "act", "body", "status"),
    [("post", "/disable", None, 200), ("post", "/enable", None, 200), ("post", "/rotate", None, 201),
     ("patch", "", {"name": "Renamed"}, 200)],
)  # fmt: skip
@pytest.mark.parametrize("undone", [False, True])
def test_a_change_that_comes_after_a_deletion_finds_nothing(acme, method, act, body, status, undone):
    token = acme.issue("admin").token
    call = ready(acme, "admin", method, f"tokens/{token.token_id}{act}", body)
    with held(acme.tenant, undone=undone):
        changing = Call(call)
        wait_for_blocked(1)
        ApiToken.objects.filter(pk=token.pk).delete()
    assert changing.result().status_code == (status if undone else 404)
    assert ApiToken.objects.count() == undone
    assert Tenant.objects.filter(pk=acme.tenant.pk).exists()


@pytest.mark.parametrize(
    ("act", "body", "status"),
    [
        pytest.param("/enable", None, 200, id="enable"),
        pytest.param("/rotate", None, 201, id="rotate"),
        pytest.param("", {"expires_in": 86_400}, 200, id="extend"),
    ],
)
@pytest.mark.parametrize("undone", [False, True])
def test_an_edit_of_a_tokens_role_that_comes_first_is_what_its_enabler_must_cover(acme, act, body, status, undone):
    role = acme.role("viewer")
    token = acme.issue("owner", roles=["viewer"]).token
    ApiToken.objects.update(disabled_at=token.created_at)
    call = ready(acme, "admin", "post" if act else "patch", f"tokens/{token.token_id}{act}", body)
    with held(role, undone=undone):
        Role.objects.filter(pk=role.pk).update(level=35)
        granting = Call(call)
        wait_for_blocked(1)
    answer = granting.result()
    assert answer.status_code == (status if undone else 403)
    assert answer.json().get("code") == (None if undone else "role_above_ceiling")
