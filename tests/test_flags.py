"""What administrators are told to look at: computed as things are now, told to those who see the other people too."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apitokens import flags
from apitokens.models import ApiToken, Secret, TokenType
from apitokens.setup import give_role
from tenants.models import Environment, Membership, MembershipRole, Role, RolePermission, VendorMembership
from tests.cast import bearer, grant
from tests.factories import MembershipFactory


@pytest.fixture
def made(world):
    """One of each owner, made by Ada the admin, the environment's by the vendor's admin; by name."""
    acme, office = world.acme, world.office
    made = {
        "tenant": acme.issue("admin", name="tenant", roles=["member"]),
        "two roles": acme.issue("admin", name="two roles", roles=["member", "viewer"], kind="client_credentials"),
        "picked": acme.issue("admin", name="picked", permissions=["reports:write"]),
        "personal": acme.issue("admin", name="personal", owner="user", roles=["member"]),
    }
    backend = acme.issue_for_environment(name="environment")
    vendors_admin = office.people["admin"].user
    ApiToken.objects.filter(pk=backend.token.pk).update(creator=vendors_admin)
    Secret.objects.filter(token=backend.token).update(shown_to=vendors_admin)
    world.globex.issue("admin", name="globex")
    return {**made, "environment": backend}


def told(at=None):
    """{name: flags} of the tokens that have any."""
    rows = ApiToken.objects.with_standing().with_suspicions()
    found = {row.name: set(flags.of(row, at=at or timezone.now())) for row in rows}
    return {name: these for name, these in found.items() if these}


def _update(model, pick, **fields):
    return lambda world: model.objects.filter(pk=pick(world).pk).update(**fields)


def _ada(world):
    return world.acme.people["admin"]


def _vendors_admin(world):
    return world.office.people["admin"]


def _role(world, key):
    return Role.objects.get(environment=world.production, tenant=None, key=key)


def _now_has(*keys):
    def give(world):
        MembershipRole.objects.filter(membership=_ada(world)).delete()
        for key in keys:
            give_role(_ada(world), _role(world, key))

    return give


def _both(*changes):
    return lambda world: [change(world) for change in changes]


def _cover(*names):
    def cover(world):
        VendorMembership.objects.filter(pk=_vendors_admin(world).pk).update(in_all_environments=False)
        for name in names:
            environment = Environment.objects.get(vendor=world.vendor, name=name)
            _vendors_admin(world).listed.create(environment=environment, vendor=world.vendor)

    return cover


NOW = timezone.now()
OUTLIVE = ("tenant", "two roles", "picked")


def these(flag, *names):
    return {name: {flag} for name in names}


KNOWN, SUSPENDED, DEMOTED, DROPPED, BEYOND = (
    "secret_known_to_former_member", "creator_suspended", "creator_demoted", "role_dropped", "out_of_policy",
)  # fmt: skip
WORLDS = {
    "as it was": (lambda world: None, {}),
    "creator left": (_update(Membership, _ada, ended_at=NOW), these(KNOWN, *OUTLIVE)),
    "creator left and the secrets were replaced": (
        _both(_update(Membership, _ada, ended_at=NOW), lambda w: Secret.objects.update(shown_to=None)),
        {},
    ),
    "who was shown it left": (
        lambda w: (
            Secret.objects.filter(token__name="tenant").update(shown_to=w.acme.people["member"].user),
            Membership.objects.filter(pk=w.acme.people["member"].pk).update(ended_at=NOW),
        ),
        these(KNOWN, "tenant"),
    ),
    "who was shown an old secret left": (
        lambda w: (
            Secret.objects.filter(token__name="tenant").update(
                shown_to=w.acme.people["member"].user, slot=None, retired_at=NOW
            ),
            Membership.objects.filter(pk=w.acme.people["member"].pk).update(ended_at=NOW),
        ),
        {},
    ),
    "somebody else left": (_update(Membership, lambda w: w.acme.people["viewer"], ended_at=NOW), {}),
    "creator suspended": (_update(Membership, _ada, suspended_at=NOW), these(SUSPENDED, *OUTLIVE)),
    "creator locked out": (
        lambda w: type(_ada(w).user).objects.filter(pk=_ada(w).user_id).update(is_active=False),
        these(SUSPENDED, *OUTLIVE),
    ),
    "creator demoted": (_now_has("member"), these(DEMOTED, *OUTLIVE)),
    "creator without a role": (_now_has(), these(DEMOTED, *OUTLIVE)),
    "creator promoted": (_now_has("owner"), {}),
    "creator's level the same, permissions gone": (
        lambda w: RolePermission.objects.filter(role=_role(w, "admin"), permission__key="reports:write").delete(),
        these(DEMOTED, *OUTLIVE),
    ),
    "the same without the strict ceiling": (
        _both(
            _update(Environment, lambda w: w.production, strict_ceiling=False),
            lambda w: RolePermission.objects.filter(role=_role(w, "admin"), permission__key="reports:write").delete(),
        ),
        these(DEMOTED, "picked"),
    ),
    "role raised above the grant": (
        _update(Role, lambda w: _role(w, "member"), level=31),
        these(DROPPED, "tenant", "two roles", "personal"),
    ),
    "role raised to the grant": (_update(Role, lambda w: _role(w, "member"), level=30), {}),
    "limits tightened": (
        lambda w: TokenType.objects.filter(owner="user").update(requires_ip_allowlist=True),
        {"personal": {BEYOND}, "globex": set()},
    ),
    "vendor's person left": (_update(VendorMembership, _vendors_admin, ended_at=NOW), these(KNOWN, "environment")),
    "vendor's person suspended": (
        _update(VendorMembership, _vendors_admin, suspended_at=NOW),
        these(SUSPENDED, "environment"),
    ),
    "vendor's person made an auditor": (
        _update(VendorMembership, _vendors_admin, role="auditor"),
        these(DEMOTED, "environment"),
    ),
    "vendor's person moved to another environment": (_cover("Staging"), these(DEMOTED, "environment")),
    "vendor's person named for this environment": (_cover("Production"), {}),
}


@pytest.mark.parametrize("name", WORLDS)
def test_what_happens_to_people_and_roles_is_told_about_the_tokens_it_concerns(world, made, name):
    change, expected = WORLDS[name]
    change(world)
    assert told() == {token: flags for token, flags in expected.items() if flags}


def test_an_expired_token_is_beyond_no_limit(world, made):
    TokenType.objects.update(requires_ip_allowlist=True)
    assert set(told()) == {*made, "globex"}
    ApiToken.objects.filter(name="environment").update(expires_at=None)
    assert set(told(timezone.now() + timedelta(days=91))) == {"environment"}


@pytest.mark.parametrize(("role", "is_told"), [("viewer", False), ("member", False), ("admin", True), ("owner", True)])
def test_who_sees_the_members_is_told_on_the_pages_and_by_the_api(world, made, role, is_told):
    acme, token = world.acme, made["tenant"].token
    Membership.objects.filter(pk=_ada(world).pk).update(suspended_at=NOW)
    # Ada herself is suspended: another admin looks.
    acme.people["admin"] = MembershipFactory(tenant=acme.tenant)
    give_role(acme.people["admin"], acme.role("admin"))
    browser = acme.browser(role)
    assert ("Maker suspended" in browser.get(acme.url()).content.decode()) == is_told
    assert ("Whoever made it is suspended" in browser.get(acme.url(f"{token.token_id}/")).content.decode()) == is_told
    read = browser.get(f"/api/v1/tokens/{token.token_id}").json()
    listed = browser.get(f"/api/v1/tokens?tenant={acme.tenant.id}").json()["results"]
    of_it = next(row for row in listed if row["id"] == token.token_id)
    assert (read.get("flags"), of_it.get("flags")) == (([SUSPENDED],) * 2 if is_told else (None, None))


def test_the_environments_token_and_the_vendors_people_are_told(world, made, machine):
    Membership.objects.filter(pk=_ada(world).pk).update(ended_at=NOW)
    path = f"/api/v1/tokens/{made['tenant'].token.token_id}"
    assert machine.get(path, headers=bearer(made["environment"].plaintext)).json()["flags"] == [KNOWN]
    page = world.office.page("auditor", world.production, f"tokens/{made['tenant'].token.token_id}/")
    assert "Secret known to a former member" in page.content.decode()


def test_a_new_secret_is_the_way_out(world, made):
    Membership.objects.filter(pk=_ada(world).pk).update(ended_at=NOW)
    token_id = made["tenant"].token.token_id
    assert world.acme.api("owner", "GET", f"tokens/{token_id}").json()["flags"] == [KNOWN]
    assert world.acme.api("owner", "POST", f"tokens/{token_id}/rotate", {"overlap": 0}).json()["flags"] == []


def test_flags_cost_the_same_number_of_queries_for_fifty_tokens_as_for_five(world):
    def queries():
        with CaptureQueriesContext(connection) as captured:
            assert all("flags" in row for row in browser.get(path).json()["results"])
        return len(captured)

    browser, path = world.acme.browser("admin"), f"/api/v1/tokens?tenant={world.acme.tenant.id}"
    for number in range(5):
        world.acme.issue("admin", name=f"CI {number}")
    few = queries()
    for number in range(5, 50):
        world.acme.issue("admin", name=f"CI {number}")
    assert queries() == few


def test_a_flag_stops_nothing(world, made, machine):
    Membership.objects.filter(pk=_ada(world).pk).update(ended_at=NOW)
    TokenType.objects.update(requires_ip_allowlist=True)
    assert machine.get("/api/v1/token/self", headers=bearer(made["tenant"].plaintext)).status_code == 200
    assert grant(machine, made["two roles"]).status_code == 200
