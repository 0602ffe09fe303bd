"""A role's edit beside grants and other edits, with real transactions: the edit wins, and nobody waits for ever."""

import pytest

from apitokens import policy
from apitokens.models import ApiToken
from apitokens.setup import give_role, hold
from tests.factories import RoleFactory
from tests.racing import Call, held, issue, ready, wait_for_blocked

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]


def vendors(world, method, path, body):
    """A call of the vendor's admin, signed in beforehand."""
    browser = world.office.browser("admin")
    browser.get("/accounts/password/change/")
    headers = {"X-CSRFToken": browser.cookies["csrftoken"].value}
    url = f"/api/v1/{path}?environment={world.production.slug}"
    return lambda: getattr(browser, method)(url, data=body, content_type="application/json", headers=headers)


def effective(token):
    row = ApiToken.objects.with_standing().get(pk=token.pk)
    return policy.effective_permissions(policy.Standing.of(row)).permissions


@pytest.mark.parametrize("change", [{"permissions": ["apitokens:read"]}, {"level": 31}])
def test_an_edit_that_comes_first_wins_over_a_grant_of_the_role(world, acme, change):
    """Both wait for the role; the edit asked first, and the grant waits for the edit."""
    viewer = acme.role("viewer")
    edit, grant = vendors(world, "patch", f"roles/{viewer.id}", change), issue(acme, roles=["viewer"])
    with held(viewer):
        editing = Call(edit)
        wait_for_blocked(1)
        granting = Call(grant)
        wait_for_blocked(2)
    assert editing.result().status_code == 200
    answer = granting.result()
    assert answer.status_code == (403 if "level" in change else 201)
    for token in ApiToken.objects.all():
        assert "reports:read" not in token.granted
        assert "reports:read" not in effective(token)


def test_a_grant_that_comes_first_is_narrowed_by_the_edit_that_waited(world, acme):
    viewer = acme.role("viewer")
    edit = vendors(world, "patch", f"roles/{viewer.id}", {"permissions": ["apitokens:read"]})
    grant = issue(acme, roles=["viewer"])
    with held(viewer):
        granting = Call(grant)
        wait_for_blocked(1)
        editing = Call(edit)
        wait_for_blocked(2)
    assert granting.result().status_code == 201
    assert editing.result().status_code == 200
    assert effective(ApiToken.objects.get()) == {"apitokens:read"}


def test_an_edit_of_two_roles_and_a_grant_that_holds_one_and_wants_the_other_do_not_deadlock(world, acme):
    """The grantor's role is locked first, the granted one second: in either order of their ids."""
    roles = [acme.role("admin"), acme.role("viewer")]
    body = {"roles": [{"id": str(role.id), "name": f"{role.name} 2"} for role in roles]}
    for last in roles:
        ready_calls = [issue(acme, name=f"CI {last.key}", roles=["viewer"]), vendors(world, "patch", "roles", body)]
        with held(last):
            calls = [Call(call) for call in ready_calls]
            wait_for_blocked(2)
        assert [call.result().status_code for call in calls] == [201, 200]


@pytest.mark.parametrize("first", ["edit", "grant"])
def test_a_member_who_edits_a_role_and_makes_a_token_of_their_own_does_not_deadlock(acme, first):
    """The one holds the member and wants the environment; the other must not hold that and want the member."""
    clerk = RoleFactory(environment=acme.environment, tenant=acme.tenant, key="own:clerk", level=15)
    edit = ready(acme, "admin", "patch", f"roles/{clerk.id}?tenant={acme.tenant.id}", {"name": "Clerk"})
    prepared = {"edit": edit, "grant": issue(acme, owner="user")}
    order = sorted(prepared, key=lambda name: name != first)
    with held(acme.environment):
        calls = {}
        for number, name in enumerate(order, start=1):
            calls[name] = Call(prepared[name])
            wait_for_blocked(number)
    assert {name: call.result().status_code for name, call in calls.items()} == {"edit": 200, "grant": 201}


def test_two_who_edit_the_role_that_both_hold_queue(acme):
    clerk = RoleFactory(environment=acme.environment, tenant=acme.tenant, key="own:clerk", level=15)
    hold(clerk, ["reports:read"])
    for person in ("admin", "owner"):
        give_role(acme.people[person], clerk)
    path = f"roles/{clerk.id}?tenant={acme.tenant.id}"
    calls = [ready(acme, person, "patch", path, {"name": f"By {person}"}) for person in ("admin", "owner")]
    with held(acme.tenant):
        editing = [Call(call) for call in calls]
        wait_for_blocked(2)
    assert [each.result().status_code for each in editing] == [200, 200]


def test_a_role_deleted_beside_a_grant_of_it_is_given_to_nobody(world, acme):
    clerk = RoleFactory(environment=acme.environment, key="clerk", level=5)
    hold(clerk, ["reports:read"])
    delete, grant = vendors(world, "delete", f"roles/{clerk.id}", None), issue(acme, roles=["clerk"])
    with held(clerk):
        deleting = Call(delete)
        wait_for_blocked(1)
        granting = Call(grant)
        wait_for_blocked(2)
    assert deleting.result().status_code == 204
    assert granting.result().status_code == 400
    assert not ApiToken.objects.exists()
