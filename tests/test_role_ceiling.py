"""R3: nobody grants above themselves, by page or by API, at the moment of granting."""

import pytest

from apitokens.models import ApiToken
from apitokens.setup import hold
from audit.models import AuditEvent, Outcome
from tenants.models import Environment, Role
from tests.cast import ROLES, shown

LEVEL = {role: number for number, role in enumerate(ROLES)}
# A viewer makes personal tokens only.
OWNERS = {"viewer": ["user"], "member": ["tenant", "user"], "admin": ["tenant", "user"], "owner": ["tenant", "user"]}
TABLE = [
    pytest.param(own, owner, asked, LEVEL[asked] <= LEVEL[own], id=f"{own}-asks-{asked}-for-{owner}")
    for own in ROLES
    for owner in OWNERS[own]
    for asked in ROLES
]


@pytest.mark.parametrize(("own", "owner", "asked", "allowed"), TABLE)
def test_on_the_page_a_member_grants_roles_up_to_their_own(acme, own, owner, asked, allowed):
    response = acme.make(own, owner=owner, roles=[asked])
    assert bool(shown(response)) == allowed
    assert ApiToken.objects.filter(owner=owner, roles__key=asked).exists() == allowed
    if not allowed:
        assert response.status_code == 422
        assert f"can&#x27;t grant the role {asked.title()}" in response.content.decode()
        assert AuditEvent.objects.filter(outcome=Outcome.REFUSED, reason="role_above_ceiling").count() == 1


@pytest.mark.parametrize(("own", "owner", "asked", "allowed"), TABLE)
def test_in_the_api_a_member_grants_roles_up_to_their_own(acme, own, owner, asked, allowed):
    body = {"name": "CI", "kind": "access_token", "owner": owner, "roles": [asked]}
    response = acme.api(own, "POST", f"tokens?tenant={acme.tenant.id}", body)
    assert response.status_code == (201 if allowed else 403)
    assert ApiToken.objects.filter(owner=owner, roles__key=asked).exists() == allowed
    if not allowed:
        problem = response.json()
        assert (problem["code"], problem["role"]) == ("role_above_ceiling", asked)
        assert list(problem["errors"]) == ["roles"]


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(("level", "allowed"), [(29, True), (30, True), (31, False)])
def test_a_level_above_ones_own_is_refused_whatever_the_role_holds(acme, strict, level, allowed):
    """An admin, level 30, holds all that this role does: it is the level that decides."""
    Environment.objects.update(strict_ceiling=strict)
    role = Role.objects.create(environment=acme.environment, key="herald", name="Herald", level=level)
    hold(role, ["reports:read"])
    body = {"name": "CI", "kind": "access_token", "roles": ["herald"]}
    response = acme.api("admin", "POST", f"tokens?tenant={acme.tenant.id}", body)
    assert response.status_code == (201 if allowed else 403)
    if not allowed:
        assert (response.json()["code"], response.json()["role"]) == ("role_above_ceiling", "herald")
