"""A tenant, from its making to its end, by the vendor's people and by its backend; and the client it is born with."""

import json
import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apitokens import services
from apitokens.models import ApiToken, Secret, TokenType
from audit.models import AuditEvent
from tenants.models import Invitation, Membership, Role, TakenSlug, Tenant
from tests.cast import TRACES, alive, bearer, event, everything_stored, grant, iso, jwt_of, make_people, shown
from tests.factories import TenantFactory

NEW = {"name": "Initech", "slug": "initech", "external_id": "customer-9"}


@pytest.fixture
def backend(world):
    """Calls with a token of production's that has the role every backend starts with."""
    token = world.acme.issue_for_environment().plaintext

    def call(method, path, body=None, **headers):
        data = "" if body is None else json.dumps(body)
        return Client().generic(
            method, f"/api/v1/{path}", data, content_type="application/json", headers={**bearer(token), **headers}
        )

    return call


def test_the_vendors_backend_makes_a_tenant_and_names_it_by_either_id(world, backend):
    answer = backend("POST", "tenants", NEW)
    made = Tenant.objects.get(slug="initech")
    body = {
        "id": str(made.id),
        "slug": "initech",
        "name": "Initech",
        "external_id": "customer-9",
        "environment": world.production.slug,
        "suspended_at": None,
        "deleted_at": None,
        "created_at": iso(made.created_at),
    }
    assert (answer.status_code, answer.json()) == (201, body)
    assert answer.headers["Location"] == f"/api/v1/tenants/{made.id}"
    assert backend("GET", f"tenants/{made.id}").json() == body
    for reference in (made.id, "customer-9"):
        assert backend("GET", f"tokens?tenant={reference}").json()["results"] == []
    recorded = event("tenant.created")
    assert (recorded.tenant_id, recorded.actor_kind) == (made.id, "token")


BAD = [
    pytest.param({"name": "ACME"}, 409, "name", id="name-taken-in-another-case"),
    pytest.param({"name": "\u200b"}, 400, "name", id="name-invisible"),
    pytest.param({"slug": "Not a slug"}, 400, "slug", id="slug-is-none"),
    pytest.param({"slug": "<taken>"}, 409, "slug", id="slug-taken"),
    pytest.param({"slug": "gone"}, 409, "slug", id="slug-once-taken"),
    pytest.param({"external_id": "<taken>"}, 409, "external_id", id="external-id-taken"),
    pytest.param({"external_id": "01890a5d-ac96-774b-bcce-b302099a8057"}, 400, "external_id", id="like-one-of-ours"),
    pytest.param({"external_id": "01890A5DAC96774BBCCEB302099A8057"}, 400, "external_id", id="like-ours-in-short"),
    pytest.param({"external_id": "a\u202eb"}, 400, "external_id", id="external-id-invisible"),
    pytest.param({"external_id": "x" * 256}, 400, "external_id", id="external-id-too-long"),
]


@pytest.mark.parametrize(("change", "status", "field"), BAD)
def test_a_tenant_that_makes_no_sense_is_refused_at_its_field(world, office, backend, change, status, field):
    TakenSlug.objects.create(kind="tenant", slug="gone")
    taken = {"slug": world.globex.tenant.slug, "external_id": world.globex.tenant.external_id}
    change = {name: taken[name] if value == "<taken>" else value for name, value in change.items()}
    before = everything_stored(but=TRACES)
    answer = backend("POST", "tenants", {**NEW, **change})
    assert (answer.status_code, list(answer.json()["errors"])) == (status, [field]), answer.content
    page = office.post("admin", world.production, "tenants/new/", **{**NEW, **change})
    assert page.status_code == 422
    kept = "external_id" if field == "slug" else "slug"
    assert f'value="{NEW[kept]}"' in page.content.decode()
    if field != "slug":
        edited = office.api("admin", "PATCH", f"tenants/{world.globex.tenant.id}", change, environment=world.production)
        is_its_own = change.get("external_id") == world.globex.tenant.external_id
        assert edited.status_code == (200 if is_its_own else status), edited.content
    assert everything_stored(but=TRACES) == before


def test_two_environments_may_know_a_customer_by_the_same_external_id(world, office):
    body = {**NEW, "external_id": world.acme.tenant.external_id}
    assert office.api("admin", "POST", "tenants", body, environment=world.staging).status_code == 201


def test_a_change_needs_the_version_that_was_seen(world, office):
    path = f"tenants/{world.acme.tenant.id}"
    seen = office.api("admin", "GET", path, environment=world.production).headers["ETag"]
    change = {"name": "Acme Ltd", "external_id": None}
    answer = office.api("admin", "PATCH", path, change, environment=world.production, **{"If-Match": seen})
    assert (answer.status_code, answer.json()["name"], answer.json()["external_id"]) == (200, "Acme Ltd", None)
    stale = office.api("owner", "PATCH", path, {"name": "Mine"}, environment=world.production, **{"If-Match": seen})
    assert (stale.status_code, stale.json()["code"]) == (412, "stale")
    recorded = event("tenant.edited")
    assert (recorded.before["name"], recorded.after["name"]) == ("Acme", "Acme Ltd")
    office.api("admin", "PATCH", path, {"name": "Acme Ltd"}, environment=world.production)
    assert AuditEvent.objects.filter(verb="tenant.edited").count() == 1


@pytest.mark.parametrize("how", ["suspend", "delete"])
def test_in_a_stopped_tenant_nothing_works_and_afterwards_all_but_the_old_jwts(world, backend, acme, how):
    client = acme.issue("admin", kind="client_credentials", roles=["viewer"])
    personal = acme.issue("admin", owner="user", name="Mine").plaintext
    elsewhere = world.globex.issue("admin").plaintext
    of_vendor = acme.issue_for_environment(kind="client_credentials", name="Bound")
    jwt = jwt_of(Client(), client)
    bound = jwt_of(Client(), of_vendor, tenant=str(acme.tenant.id))
    assert alive(personal, elsewhere, jwt, bound) == [200, 200, 200, 200]
    path = f"tenants/{acme.tenant.id}"
    stop, resume = {
        "suspend": (("POST", f"{path}/suspend"), ("POST", f"{path}/reinstate")),
        "delete": (("DELETE", path, {"name": "Acme"}), ("POST", f"{path}/restore")),
    }[how]
    assert backend(*stop).status_code == 200
    assert alive(personal, elsewhere, jwt, bound) == [401, 200, 401, 401]
    assert grant(Client(), client).json()["error"] == "unauthorized_client"
    assert grant(Client(), of_vendor, tenant=str(acme.tenant.id)).json()["error"] == "invalid_request"
    assert acme.browser("admin").get(acme.url()).status_code == 404
    assert ApiToken.objects.filter(tenant=acme.tenant).usable(at=timezone.now()).count() == 0
    assert backend("GET", path).status_code == 200
    assert backend(*resume).status_code == 200
    assert alive(personal, elsewhere, jwt, bound) == [200, 200, 401, 401]
    assert acme.browser("admin").get(acme.url()).status_code == 200


@pytest.mark.parametrize(
    ("before", "verb", "path", "body", "code"),
    [
        ({}, "POST", "/reinstate", None, "already_so"),
        ({}, "POST", "/restore", None, "already_so"),
        ({"suspended_at": 0}, "POST", "/suspend", None, "already_so"),
        ({"deleted_at": 0}, "DELETE", "", {"name": "Acme"}, "already_so"),
        ({"deleted_at": 0}, "PATCH", "", {"name": "Live"}, "deleted"),
        ({"deleted_at": 0}, "POST", "/suspend", None, "deleted"),
        ({"deleted_at": 0, "suspended_at": 0}, "POST", "/reinstate", None, "deleted"),
        ({"deleted_at": 30}, "POST", "/restore", None, "too_late"),
    ],
)
def test_what_does_not_fit_its_state_is_refused_and_changes_nothing(acme, backend, before, verb, path, body, code):
    times = {name: timezone.now() - timedelta(days=days) for name, days in before.items()}
    Tenant.objects.filter(pk=acme.tenant.pk).update(**times)
    stored = everything_stored(but=TRACES)
    answer = backend(verb, f"tenants/{acme.tenant.id}{path}", body)
    assert (answer.status_code, answer.json()["code"]) == (409, code)
    assert everything_stored(but=TRACES) == stored


def test_just_before_thirty_days_have_passed_it_can_be_restored(acme, backend):
    Tenant.objects.filter(pk=acme.tenant.pk).update(deleted_at=timezone.now() - timedelta(days=29, hours=23))
    answer = backend("POST", f"tenants/{acme.tenant.id}/restore")
    assert (answer.status_code, answer.json()["deleted_at"]) == (200, None)


@pytest.mark.parametrize("typed", ["acme", "Globex", ""])
def test_a_tenant_is_deleted_by_its_exact_name_only(world, office, backend, acme, typed):
    before = everything_stored(but=TRACES)
    answer = backend("DELETE", f"tenants/{acme.tenant.id}", {"name": typed})
    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["name"])
    assert office.post("owner", world.production, f"tenants/{acme.tenant.id}/delete/", name=typed).status_code == 422
    assert everything_stored(but=TRACES) == before


@pytest.mark.parametrize(
    ("held", "verb", "path", "status"),
    [
        ("tenants:read", "GET", "", 200),
        ("apitokens:read", "GET", "", 403),
        ("tenants:create", "PATCH", "", 200),
        ("tenants:delete", "PATCH", "", 403),
        ("tenants:delete", "POST", "/suspend", 200),
        ("tenants:create", "POST", "/suspend", 403),
        ("tenants:delete", "DELETE", "", 200),
        ("tenants:create", "DELETE", "", 403),
    ],
)
def test_a_token_does_to_tenants_what_it_holds_the_permission_for(acme, held, verb, path, status):
    keys = {"tenants:read", held} if verb != "GET" else {held}
    token = acme.issue_for_environment(roles=(), permissions=sorted(keys)).plaintext
    body = {"name": "Acme"} if verb in {"PATCH", "DELETE"} else None
    answer = Client().generic(
        verb,
        f"/api/v1/tenants/{acme.tenant.id}{path}",
        "" if body is None else json.dumps(body),
        content_type="application/json",
        headers=bearer(token),
    )
    assert answer.status_code == status, answer.content


@pytest.fixture
def with_default_client(world, office):
    answer = office.api("owner", "PATCH", f"environments/{world.production.slug}", {"default_role": "member"})
    assert answer.status_code == 200
    return world


def default_client(tenant):
    return ApiToken.objects.with_standing().with_last_four().filter(tenant=tenant).first()


def test_without_a_default_role_a_tenant_is_born_with_no_token(world, backend):
    backend("POST", "tenants", NEW)
    assert default_client(Tenant.objects.get(slug="initech")) is None


def test_a_default_client_is_born_without_a_secret_and_its_first_one_is_shown_once(
    with_default_client, office, backend
):
    backend("POST", "tenants", NEW)
    token = default_client(Tenant.objects.get(slug="initech"))
    assert (token.name, token.owner, token.kind, token.expires_at) == (
        "Default client", "tenant", "client_credentials", None,
    )  # fmt: skip
    assert [role.key for role in token.roles.all()] == ["member"]
    assert "reports:write" in token.granted
    assert Secret.objects.filter(token=token).count() == 0
    # Nobody can be it yet, with whatever secret.
    for guessed in ("", "x", "None"):
        assert grant(Client(), services.Issued(token=token, plaintext=guessed)).status_code == 401, guessed
    assert backend("GET", f"tokens/{token.token_id}?tenant=customer-9").json()["last_four"] is None
    first = backend("POST", f"tokens/{token.token_id}/rotate?tenant=customer-9")
    assert first.status_code == 201, first.content
    issued = services.Issued(token=token, plaintext=first.json()["client_secret"])
    jwt = jwt_of(Client(), issued)
    assert alive(jwt) == [200]
    assert not [table for table, rows in everything_stored().items() if issued.plaintext in str(rows)]


def test_a_token_without_a_secret_reads_well_on_its_pages(with_default_client, office, backend):
    """In the tenant's portal: the list, its page, the page for a new secret, and its tombstone."""
    backend("POST", "tenants", NEW)
    tenant = Tenant.objects.get(slug="initech")
    house = make_people(tenant)
    token = default_client(tenant)
    browser = house.browser("owner")
    assert "no secret yet" in browser.get(house.url()).content.decode()
    assert "None yet: no machine can use it." in browser.get(house.url(f"{token.token_id}/")).content.decode()
    path = f"{token.token_id}/rotate/"
    page = browser.get(house.url(path)).content.decode()
    assert ('name="overlap"' in page, "Did it leak?" in page) == (False, False)
    made = browser.post(house.url(path), house.form(browser, path))
    assert set(shown(made)) == {"token_id", "client_id", "client_secret"}
    page = browser.get(house.url(path)).content.decode()
    assert ('name="overlap"' in page, "Did it leak?" in page) == (True, True)


def test_the_tombstone_of_a_token_without_a_secret_has_no_last_four(with_default_client, backend):
    backend("POST", "tenants", NEW)
    token = default_client(Tenant.objects.get(slug="initech"))
    assert backend("DELETE", f"tokens/{token.token_id}?tenant=customer-9").status_code == 204
    assert event("apitoken.deleted").before == {
        "token_id": token.token_id,
        "name": "Default client",
        "owner": "tenant",
        "last_four": "",
        "creator": None,
    }


@pytest.mark.parametrize(
    "change", [{"is_enabled": False}, {"requires_ip_allowlist": True}, {"carries_all_roles": False}, {"quota": 0}]
)
def test_what_the_token_type_forbids_no_tenant_is_born_with(with_default_client, office, backend, change):
    cell = TokenType.objects.filter(
        environment=with_default_client.production, owner="tenant", kind="client_credentials"
    )
    cell.update(**change)
    assert backend("POST", "tenants", NEW).status_code == 201
    assert default_client(Tenant.objects.get(slug="initech")) is None
    page = office.page("owner", with_default_client.production, "settings/").content.decode()
    assert "new tenants are born without it" in page
    again = office.api(
        "owner", "PATCH", f"environments/{with_default_client.production.slug}", {"default_role": "viewer"}
    )
    assert (again.status_code, list(again.json()["errors"])) == (400, ["default_role"])


@pytest.mark.parametrize(
    ("types", "days"),
    [
        ({"longest_lifetime": 10 * 86_400, "default_lifetime": 86_400}, 10),
        ({"may_never_expire": False, "default_lifetime": 5 * 86_400}, 5),
    ],
)
def test_a_default_client_lives_as_long_as_its_type_lets_it(with_default_client, backend, types, days):
    cell = TokenType.objects.filter(
        environment=with_default_client.production, owner="tenant", kind="client_credentials"
    )
    cell.update(**types)
    backend("POST", "tenants", NEW)
    token = default_client(Tenant.objects.get(slug="initech"))
    assert token.expires_at - token.created_at == timedelta(days=days)


def test_choosing_the_default_role_is_granting(world, acme):
    """R3: a token chooses no role that it could not hand out itself."""
    keys = ["environments:create", "environments:read"]
    token = acme.issue_for_environment(roles=(), permissions=keys).plaintext
    for role, status in (("viewer", 403), (None, 200)):
        answer = Client().patch(
            f"/api/v1/environments/{world.production.slug}",
            {"default_role": role},
            content_type="application/json",
            headers=bearer(token),
        )
        assert answer.status_code == status, answer.content
    assert not Role.objects.filter(is_for_new_tenants=True).exists()


def test_tenants_are_found_by_name_external_id_and_slug(world, office):
    TenantFactory(environment=world.production, name="Umbrella 50%", slug="umb", external_id="crm-77")
    for wanted, found in (
        ("brella", ["Umbrella 50%"]),
        ("CRM-7", ["Umbrella 50%"]),
        ("umb", ["Umbrella 50%"]),
        ("%", ["Umbrella 50%"]),
        ("rm-7", []),
        ("e", ["Umbrella 50%", "Globex", "Acme"]),
    ):
        listed = office.api("auditor", "GET", f"tenants?q={wanted.replace('%', '%25')}", environment=world.production)
        assert [row["name"] for row in listed.json()["results"]] == found, wanted
        page = office.page("auditor", world.production, f"tenants/?q={wanted.replace('%', '%25')}").content.decode()
        assert [name for name in ("Umbrella 50%", "Globex", "Acme") if f">{name}</a>" in page] == found
    assert office.page("auditor", world.production, "tenants/?q=%00").status_code == 200
    assert office.api("auditor", "GET", "tenants?q=%00", environment=world.production).status_code == 200


def test_a_page_of_tenants_takes_as_many_queries_for_many_as_for_few(world, office):
    browser = office.browser("auditor")
    url = office.url(world.production, "tenants/")
    browser.get(url)
    counts = []
    for _ in range(2):
        with CaptureQueriesContext(connection) as queries:
            page = browser.get(url).content.decode()
        counts.append((len(queries), page.count("data-tenant=")))
        for _ in range(60):
            TenantFactory(environment=world.production)
    assert [rows for _, rows in counts] == [2, 50]
    assert counts[0][0] == counts[1][0]
    assert 'rel="next"' in page


def test_the_first_admin_is_invited_by_a_link_that_works(world, office, acme):
    answer = office.post(
        "admin", world.production, f"tenants/{acme.tenant.id}/invite/", email="new@acme.example", roles="admin"
    )
    link = shown(answer)["invitation_link"]
    assert link.startswith("http://localhost:8000/invitations/")
    assert Client().get(link.removeprefix("http://localhost:8000")).status_code == 200
    bad = office.post("admin", world.production, f"tenants/{acme.tenant.id}/invite/", email="nobody", roles="admin")
    assert bad.status_code == 422
    assert 'value="nobody"' in bad.content.decode()


def test_on_a_tenants_page_its_invitations_are_revoked_and_its_members_stopped(world, office, acme):
    where, member = f"tenants/{acme.tenant.id}/", acme.people["member"]
    office.post("admin", world.production, f"{where}invite/", email="new@acme.example", roles="viewer")
    page = office.page("admin", world.production, where).content.decode()
    assert "new@acme.example" in page
    assert "the role says" in page
    for listed in acme.people.values():
        assert str(listed.user) in page
    revoke = re.search(rf'action="/console/{world.production.slug}/({where}invitations/[^"]+/revoke/)"', page)[1]
    assert office.post("admin", world.production, revoke).status_code == 302
    assert not Invitation.objects.exists()
    for act, is_suspended in (("suspend", True), ("reinstate", False)):
        address = f"{where}members/{member.id}/{act}/"
        assert address in office.page("admin", world.production, where).content.decode()
        assert office.post("admin", world.production, address).status_code == 302
        member.refresh_from_db()
        assert (member.suspended_at is not None) == is_suspended
    assert "/suspend/" not in office.page("auditor", world.production, where).content.decode()


def test_a_member_of_another_tenant_is_not_found_under_this_one(world, office, acme, globex):
    address = f"tenants/{acme.tenant.id}/members/{globex.people['member'].id}/suspend/"
    assert office.post("owner", world.production, address).status_code == 404
    assert not Membership.objects.filter(suspended_at__isnull=False).exists()


def test_a_deleted_tenant_is_marked_in_the_list(world, office, acme):
    Tenant.objects.filter(pk=acme.tenant.pk).update(deleted_at=timezone.now())
    page = office.page("auditor", world.production, "tenants/").content.decode()
    assert 'badge-refused">Deleted<' in page
    assert "it can be restored" in page
