"""What one environment takes over from another: its configuration, looked at first, and never what is in it."""

import pytest
from django.test import Client

from apitokens.models import TokenType, TokenTypeRole
from apitokens.setup import hold
from audit.models import AuditEvent
from tenants.models import Permission, Role, VendorMembershipEnvironment
from tests.cast import TRACES, alive, bearer, event, everything_stored, jwt_of, make_environment
from tests.factories import VendorFactory, VendorMembershipFactory

CONFIGURATION = (
    "tenants_permission", "tenants_role", "tenants_rolepermission", "apitokens_tokentype", "apitokens_tokentyperole",
)  # fmt: skip


@pytest.fixture
def changed(world):
    """Staging has gone on: something new, something changed, something that production alone has."""
    staging, production = world.staging, world.production
    Permission.objects.create(environment=staging, key="invoices:read", description="Read invoices")
    Permission.objects.filter(environment=staging, key="reports:read").update(for_personal_tokens=False)
    Permission.objects.create(environment=production, key="legacy:use")
    viewer = Role.objects.get(environment=staging, tenant=None, key="viewer")
    hold(viewer, ["invoices:read"])
    viewer.role_permissions.filter(permission__key="reports:read").delete()
    Role.objects.filter(environment=staging, key="member").update(level=25)
    auditor = Role.objects.create(environment=staging, key="bookkeeper", name="Bookkeeper", level=15)
    hold(auditor, ["invoices:read", "reports:read"])
    Role.objects.create(environment=production, key="legacy", name="Legacy", level=1)
    Role.objects.create(environment=staging, tenant=world.acme_staging.tenant, key="own:x", name="X", level=1)
    cells = TokenType.objects.filter(environment=staging, owner="tenant")
    cells.filter(kind="access_token").update(is_enabled=False)
    client = cells.get(kind="client_credentials")
    TokenType.objects.filter(pk=client.pk).update(
        carries_all_roles=False, longest_lifetime=864_000, default_lifetime=3600
    )
    cell = {"environment": staging, "owner": client.owner, "kind": client.kind}
    TokenTypeRole.objects.create(token_type=client, role=viewer, **cell)
    return world


def copy(world, who="owner", *, dry_run=False, source=None, **headers):
    path = f"environments/{world.production.slug}/copy{'?dry_run=true' if dry_run else ''}"
    return world.office.api(who, "POST", path, {"from": source or world.staging.slug}, **headers)


def found(answer):
    return {(row["kind"], row["key"]): row["change"] for row in answer.json()["differences"]}


DIFFERENCES = {
    ("permission", "invoices:read"): "added",
    ("permission", "legacy:use"): "only_here",
    ("permission", "reports:read"): "changed",
    ("role", "bookkeeper"): "added",
    ("role", "legacy"): "only_here",
    ("role", "member"): "changed",
    ("role", "viewer"): "changed",
    ("token_type", "tenant access_token"): "changed",
    ("token_type", "tenant client_credentials"): "changed",
}


def test_a_dry_run_names_every_difference_and_whom_it_reaches_and_changes_nothing(changed):
    changed.acme.issue("admin", name="One")
    changed.acme.issue("admin", name="Two", kind="client_credentials", roles=["member"])
    before = everything_stored(but=TRACES)
    answer = copy(changed, dry_run=True)
    assert (answer.status_code, found(answer)) == (200, DIFFERENCES)
    assert (answer.json()["is_applied"], answer.headers["ETag"]) == (False, f'"{answer.json()["version"]}"')
    rows = {(row["kind"], row["key"]): row for row in answer.json()["differences"]}
    reached = {key[1]: (row["effects"], row["tokens"], row["members"]) for key, row in rows.items() if row["effects"]}
    assert reached == {
        "reports:read": (["binds_new_tokens"], 0, 0),
        "member": (["tokens_granted_below_lose_it"], 1, 2),
        "viewer": (["members_and_tokens_lose", "members_gain"], 1, 2),
        "tenant access_token": (["tokens_stop"], 1, 0),
        "tenant client_credentials": (["binds_new_tokens"], 1, 0),
    }
    assert rows["role", "bookkeeper"]["after"] == {
        "name": "Bookkeeper",
        "level": 15,
        "permissions": ["invoices:read", "reports:read"],
    }
    assert everything_stored(but=TRACES) == before


def test_copying_makes_everything_but_what_is_only_here_the_same(changed):
    seen = copy(changed, dry_run=True).headers["ETag"]
    others = everything_stored(but=(*TRACES, *CONFIGURATION))
    answer = copy(changed, **{"If-Match": seen})
    assert (answer.status_code, answer.json()["is_applied"], found(answer)) == (200, True, DIFFERENCES)
    left = copy(changed, dry_run=True)
    assert found(left) == {key: "only_here" for key, change in DIFFERENCES.items() if change == "only_here"}
    # Neither tokens, tenants, people, keys nor identifiers; a tenant's own roles stay with it.
    assert everything_stored(but=(*TRACES, *CONFIGURATION)) == others
    assert not Role.objects.filter(environment=changed.production, tenant__isnull=False).exists()
    again = copy(changed)
    assert (again.status_code, again.json()["code"]) == (400, "nothing_to_copy")


def test_copying_is_one_event_with_before_and_after(changed):
    copy(changed)
    (recorded,) = AuditEvent.objects.filter(verb="environment.configuration_copied")
    assert (recorded.environment_id, recorded.target_id) == (changed.production.id, changed.production.id)
    assert recorded.after["from"] == changed.staging.slug
    assert recorded.before["role"]["member"]["level"] == 20
    assert recorded.after["role"]["member"]["level"] == 25
    assert recorded.before["role"]["bookkeeper"] is None
    assert "legacy" not in recorded.after["role"]


def test_a_token_type_that_copying_switches_off_stops_its_tokens_and_kills_their_jwts(changed):
    """R5: also after it is switched on again."""
    TokenType.objects.filter(environment=changed.staging, kind="client_credentials").update(is_enabled=False)
    client = changed.acme.issue("admin", kind="client_credentials")
    opaque = changed.acme.issue("admin", name="Opaque").plaintext
    jwt = jwt_of(Client(), client)
    assert alive(opaque, jwt) == [200, 200]
    assert copy(changed).status_code == 200
    assert alive(opaque, jwt) == [401, 401]
    TokenType.objects.filter(environment=changed.staging).update(is_enabled=True)
    assert copy(changed).status_code == 200
    assert alive(jwt) == [401]


def test_what_was_looked_at_and_has_changed_since_is_not_copied(changed):
    seen = copy(changed, dry_run=True).headers["ETag"]
    Role.objects.filter(environment=changed.staging, key="member").update(level=26)
    before = everything_stored(but=TRACES)
    answer = copy(changed, **{"If-Match": seen})
    assert (answer.status_code, answer.json()["code"]) == (412, "stale")
    assert everything_stored(but=TRACES) == before


def test_on_the_page_too(changed):
    office, path = changed.office, f"settings/copy/?from={changed.staging.slug}"
    browser = office.browser("owner")
    hidden = office.hidden(browser, changed.production, path)
    Role.objects.filter(environment=changed.staging, key="member").update(level=26)
    url = office.url(changed.production, path)
    stale = browser.post(url, hidden)
    assert stale.status_code == 422
    assert "Somebody has changed this" in stale.content.decode()
    assert Role.objects.get(environment=changed.production, key="member").level == 20
    assert office.post("owner", changed.production, path).status_code == 302
    assert Role.objects.get(environment=changed.production, key="member").level == 26


def test_the_page_says_what_would_happen_in_words(changed):
    changed.acme.issue("admin", name="One")
    page = changed.office.page(
        "admin", changed.production, f"settings/copy/?from={changed.staging.slug}"
    ).content.decode()
    for words in (
        "Gets invoices:read",
        "Loses reports:read",
        "Level: 20 → 25",
        "Takes permissions from 2 members and 1 token with this role, at once.",
        "Stops 1 token of this type at once.",
        "Only here, stays",
        "Longest lifetime: no limit → 10 days",
    ):
        assert words in page, words


def test_two_roles_may_have_swapped_their_names(world):
    viewer, member = (Role.objects.get(environment=world.staging, tenant=None, key=key) for key in ("viewer", "member"))
    for role, name in ((viewer, "Between"), (member, "Viewer"), (viewer, "Member")):
        Role.objects.filter(pk=role.pk).update(name=name)
    assert copy(world).status_code == 200
    names = Role.objects.filter(environment=world.production, key__in=["viewer", "member"]).order_by("level")
    assert [role.name for role in names] == ["Member", "Viewer"]


def test_a_role_that_would_have_the_name_of_another_here_is_refused_and_nothing_is_half_done(changed):
    Role.objects.create(environment=changed.production, key="books", name="bookkeeper", level=3)
    before = everything_stored(but=TRACES)
    answer = copy(changed)
    assert (answer.status_code, answer.json()["code"], list(answer.json()["errors"])) == (409, "taken", ["from"])
    assert everything_stored(but=TRACES) == before


def lister(world, *environments, role="admin"):
    member = VendorMembershipFactory(vendor=world.vendor, role=role, in_all_environments=False)
    for environment in environments:
        VendorMembershipEnvironment.objects.create(
            vendor_membership=member, environment=environment, vendor=world.vendor
        )
    world.office.people["lister"] = member


def test_copying_takes_somebody_who_may_change_both(changed):
    lister(changed, changed.production)
    assert copy(changed, "lister").json()["errors"] == {"from": ["There is no such environment, or it is not yours."]}
    assert copy(changed, "lister", dry_run=True).status_code == 400
    page = changed.office.page("lister", changed.production, f"settings/copy/?from={changed.staging.slug}")
    assert page.status_code == 404
    assert copy(changed, "auditor").json()["permission"] == "environments:create"
    assert copy(changed, "auditor", dry_run=True).json()["permission"] == "environments:create"
    lister(changed, changed.production, changed.staging)
    assert copy(changed, "lister").status_code == 200


def test_another_vendors_environment_is_like_none(changed):
    foreign = make_environment(vendor=VendorFactory())
    theirs, nobodys = (copy(changed, source=slug) for slug in (foreign.slug, "never"))
    assert (theirs.status_code, theirs.content) == (400, nobodys.content)


def test_a_token_copies_nothing(changed):
    """A token acts inside one environment."""
    token = changed.acme.issue_for_environment(roles=(), permissions=["environments:create"]).plaintext
    for slug in (changed.staging.slug, "never"):
        answer = Client().post(
            f"/api/v1/environments/{changed.production.slug}/copy",
            {"from": slug},
            content_type="application/json",
            headers=bearer(token),
        )
        assert (answer.status_code, answer.json()["code"]) == (403, "out_of_reach")


@pytest.mark.parametrize("which", ["source", "target"])
def test_nothing_is_copied_from_or_to_a_deleted_environment(changed, which):
    row = changed.staging if which == "source" else changed.production
    changed.office.api("owner", "DELETE", f"environments/{row.slug}", {"name": row.name})
    assert event("environment.deleted").target_id == row.id
    assert copy(changed).status_code == (400 if which == "source" else 409)


def test_an_environment_is_not_copied_to_itself(changed):
    answer = copy(changed, source=changed.production.slug)
    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["from"])
