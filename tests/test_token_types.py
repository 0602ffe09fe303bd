"""What a vendor lets exist: a limit binds what is made from now on, and says first what it does to what there is."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apitokens import policy, services
from apitokens.models import DAY, HOUR, ApiToken, TokenType, TokenTypeRole
from apitokens.orders import Expiry
from apitokens.principals import system
from audit.models import AuditEvent
from tests.answers import problem
from tests.cast import bearer, everything_stored, grant, jwt_of
from tests.racing import Call, held, issue, wait_for_blocked

AT = datetime(2031, 5, 1, 12, 0, 0, tzinfo=UTC)
TENANT_ACCESS = "token-types/tenant/access_token"
BORN = {
    "owner": "tenant", "kind": "access_token", "is_enabled": True, "roles": None, "default_lifetime": 90 * DAY,
    "longest_lifetime": None, "may_never_expire": True, "jwt_lifetime": HOUR, "longest_overlap": 30 * DAY,
    "requires_ip_allowlist": False, "quota": None, "accepts_basic": False, "may_make_tokens": False,
}  # fmt: skip
NONE = {"count": 0, "tokens": []}
# Where it shows that somebody signed in.
SIGNING_IN = ("django_session", "accounts_user")


@pytest.fixture
def frozen():
    with time_machine.travel(AT, tick=False) as clock:
        yield clock


def cell(world, owner="tenant", kind="access_token"):
    return TokenType.objects.get(environment=world.production, owner=owner, kind=kind)


def change(world, body, role="admin", path=TENANT_ACCESS, **headers):
    return world.office.api(role, "PATCH", path, body, environment=world.production, **headers)


def impact(world, body, path=TENANT_ACCESS):
    answer = change(world, body, path=f"{path}?dry_run=true")
    assert answer.status_code == 200, answer.content
    return answer.json()


def names(listed):
    return [token["name"] for token in listed["tokens"]]


def test_all_six_are_listed_in_one_order(world):
    listed = world.office.api("auditor", "GET", "token-types", environment=world.production).json()
    assert [(found["owner"], found["kind"]) for found in listed["results"]] == [
        (owner, kind) for owner in ("environment", "tenant", "user") for kind in ("client_credentials", "access_token")
    ]
    assert listed["results"][3] == BORN
    read = world.office.api("auditor", "GET", TENANT_ACCESS, environment=world.production)
    assert read.json() == BORN


@pytest.mark.parametrize("path", ["token-types/tenant/none", "token-types/nobody/access_token"])
def test_what_is_no_cell_is_not_found(world, path):
    assert world.office.api("owner", "GET", path, environment=world.production).status_code == 404


def test_a_change_is_answered_recorded_and_bound_to_what_was_seen(world):
    seen = world.office.api("admin", "GET", TENANT_ACCESS, environment=world.production).headers["ETag"]
    asked = {"longest_lifetime": 180 * DAY, "may_never_expire": False, "roles": ["viewer", "member"], "quota": 5}
    answer = change(world, asked, **{"If-Match": seen})
    expected = {**BORN, **asked, "roles": ["member", "viewer"]}
    assert (answer.status_code, answer.json()) == (200, expected)
    assert answer.headers["ETag"] != seen
    event = AuditEvent.objects.get(verb="token_type.changed")
    assert (event.before, event.after, event.target_id) == (BORN, expected, cell(world).id)
    assert (event.environment_id, event.tenant_id) == (world.production.id, None)
    stale = change(world, {"quota": 6}, **{"If-Match": seen})
    assert (stale.status_code, stale.json()["code"]) == (412, "stale")
    assert change(world, {"quota": 6}, **{"If-Match": answer.headers["ETag"]}).status_code == 200


def test_a_change_to_what_it_is_already_leaves_no_event(world):
    assert change(world, {"may_never_expire": True, "roles": None}).json() == BORN
    assert not AuditEvent.objects.filter(verb="token_type.changed").exists()


@pytest.mark.parametrize(
    ("asked", "field", "message"),
    [
        ({"default_lifetime": 59}, "default_lifetime", "A lifetime is between one minute and fifty years."),
        ({"longest_lifetime": 51 * 366 * DAY}, "longest_lifetime", "A lifetime is between one minute and fifty years."),
        ({"jwt_lifetime": 59}, "jwt_lifetime", "A JWT lives for at least one minute and at most 30 days."),
        ({"jwt_lifetime": 30 * DAY + 1}, "jwt_lifetime", "A JWT lives for at least one minute and at most 30 days."),
        ({"longest_overlap": 30 * DAY + 1}, "longest_overlap", "The overlap is at most 30 days; 0 is none."),
        ({"longest_overlap": -1}, "longest_overlap", "The overlap is at most 30 days; 0 is none."),
        ({"quota": 0}, "quota", "At least one. To allow none, switch the type off."),
        ({"default_lifetime": None, "may_never_expire": False}, "default_lifetime",
         "Choose a default lifetime: by this change no token may live for ever."),
        ({"longest_lifetime": 89 * DAY}, "default_lifetime", "The default can't be longer than the longest lifetime."),
        ({"roles": ["nobody"]}, "roles", "Unknown role: nobody."),
        ({"roles": ["own:theirs"]}, "roles", "Unknown role: own:theirs."),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_said_in_words_and_changes_nothing(world, asked, field, message):
    before = everything_stored(but=SIGNING_IN)
    for path in (TENANT_ACCESS, f"{TENANT_ACCESS}?dry_run=true"):
        answer = change(world, asked, path=path)
        assert (answer.status_code, answer.json()) == (400, problem(400, "invalid", message, errors={field: [message]}))
    assert everything_stored(but=SIGNING_IN) == before


@pytest.mark.parametrize(
    "asked",
    [{"default_lifetime": 60}, {"longest_lifetime": 90 * DAY}, {"jwt_lifetime": 60}, {"jwt_lifetime": 30 * DAY},
     {"longest_overlap": 0}, {"longest_overlap": 30 * DAY}, {"quota": 1}, {"quota": None}, {"roles": []}],
)  # fmt: skip
def test_the_bounds_themselves_are_allowed(world, asked):
    answer = change(world, asked)
    assert (answer.status_code, answer.json()) == (200, {**BORN, **asked})


@pytest.mark.parametrize(
    ("who", "status", "code"),
    [("owner", 200, None), ("admin", 200, None), ("auditor", 403, "insufficient_scope")],
)
@pytest.mark.parametrize("query", ["", "?dry_run=true"])
def test_an_auditor_reads_and_owners_and_admins_change(world, who, status, code, query):
    answer = change(world, {"quota": 3}, role=who, path=TENANT_ACCESS + query)
    assert (answer.status_code, answer.json().get("code")) == (status, code)
    assert cell(world).quota == (3 if status == 200 and not query else None)
    refused = AuditEvent.objects.filter(outcome="refused").values_list("verb", "reason")
    assert list(refused) == ([] if status == 200 else [("token_type.changed", "insufficient_scope")])


@pytest.mark.parametrize(
    ("permissions", "path", "status"),
    [
        (["token-types:read", "token-types:create"], "token-types", 200),
        (["token-types:create"], "token-types", 403),
        (["token-types:read", "token-types:create"], TENANT_ACCESS, 200),
        (["token-types:read"], TENANT_ACCESS, 403),
    ],
)
def test_a_token_of_the_environment_does_what_its_permissions_say(world, machine, permissions, path, status):
    caller = world.acme.issue_for_environment(roles=[], permissions=permissions)
    method = "get" if path == "token-types" else "patch"
    sent = {} if method == "get" else {"data": {"quota": 3}, "content_type": "application/json"}
    answer = getattr(machine, method)(f"/api/v1/{path}", headers=bearer(caller.plaintext), **sent)
    assert answer.status_code == status


def test_who_acts_in_one_tenant_does_not_configure_its_environment(world, machine):
    client = world.acme.issue_for_environment(
        kind="client_credentials", roles=[], permissions=["token-types:read", "token-types:create"]
    )
    for tenant, status in ((None, 200), (world.acme.tenant, 403)):
        jwt = jwt_of(machine, client, **({"tenant": str(tenant.id)} if tenant else {}))
        answer = machine.get("/api/v1/token-types", headers=bearer(jwt))
        assert (answer.status_code, answer.json().get("code")) == (status, "out_of_reach" if tenant else None)


def test_a_disabled_type_stops_its_tokens_and_their_jwts_stay_dead(world, machine):
    client = world.acme.issue("admin", kind="client_credentials")
    jwt = jwt_of(machine, client)
    path = "token-types/tenant/client_credentials"
    assert names(impact(world, {"is_enabled": False}, path)["stops"]) == ["CI"]
    assert change(world, {"is_enabled": False}, path=path).status_code == 200
    assert grant(machine, client).json()["error"] == "unauthorized_client"
    assert change(world, {"is_enabled": False, "quota": 9}, path=path).status_code == 200
    assert cell(world, kind="client_credentials").generation == 1
    assert change(world, {"is_enabled": True}, path=path).status_code == 200
    assert cell(world, kind="client_credentials").generation == 1
    assert machine.get("/api/v1/token/self", headers=bearer(jwt)).status_code == 401
    assert grant(machine, client).status_code == 200


def test_a_dry_run_says_what_each_change_would_do_and_does_nothing(frozen, world):
    acme = world.acme
    acme.issue("admin", name="For ever", expires_at=None)
    acme.issue("admin", name="Short", expires_at=AT + timedelta(days=10))
    acme.issue("admin", name="Admin's", roles=["admin"], expires_at=AT + timedelta(days=10))
    world.acme_staging.issue("admin", name="Elsewhere")
    before = everything_stored(but=SIGNING_IN)
    found = impact(world, {"longest_lifetime": 20 * DAY, "default_lifetime": 10 * DAY})
    assert found["out_of_policy"]["count"] == 1
    assert names(found["out_of_policy"]) == ["For ever"]
    assert names(impact(world, {"roles": ["viewer", "member"]})["out_of_policy"]) == ["Admin's"]
    assert impact(world, {"requires_ip_allowlist": True})["out_of_policy"]["count"] == 3
    assert impact(world, {"is_enabled": False})["stops"]["count"] == 3
    over = impact(world, {"quota": 2})["owners_over_quota"]
    assert over == {"count": 1, "owners": [{"tenant": str(acme.tenant.id), "user": None, "count": 3}]}
    assert impact(world, {"quota": 3})["owners_over_quota"] == {"count": 0, "owners": []}
    harmless = impact(world, {"jwt_lifetime": 60})
    consequences = ("stops", "out_of_policy", "loses_basic", "loses_making")
    assert {name: harmless[name] for name in consequences} == dict.fromkeys(consequences, NONE)
    assert (harmless["before"], harmless["after"]) == (BORN, {**BORN, "jwt_lifetime": 60})
    assert everything_stored(but=SIGNING_IN) == before


def test_losing_basic_and_making_is_counted_for_tokens_that_work(world):
    world.acme.issue_for_environment(kind="client_credentials", name="Backend")
    disabled = world.acme.issue_for_environment(kind="client_credentials", name="Stopped").token
    ApiToken.objects.filter(pk=disabled.pk).update(disabled_at=timezone.now())
    path = "token-types/environment/client_credentials"
    found = impact(world, {"accepts_basic": False, "may_make_tokens": False}, path)
    assert (names(found["loses_basic"]), names(found["loses_making"])) == (["Backend"], ["Backend"])
    assert impact(world, {"may_make_tokens": False}, path)["loses_basic"] == NONE


TABLE = {
    # name: what was asked for under no limit, and by which limits it is out of policy
    "for ever": ({"expires_at": None}, {"never", "ip"}),
    "a second too long": ({"expires_at": AT + timedelta(seconds=30 * DAY + 1)}, {"long", "ip"}),
    "a microsecond too long": ({"expires_at": AT + timedelta(days=30, microseconds=1)}, {"long", "ip"}),
    "just as long": ({"expires_at": AT + timedelta(days=30)}, {"ip"}),
    "shorter": ({"expires_at": AT + timedelta(days=1)}, {"ip"}),
    "with networks": ({"expires_at": AT + timedelta(days=1), "ip_allowlist": ("10.0.0.0/8",)}, set()),
    "admin": ({"expires_at": AT + timedelta(days=1), "roles": ["admin"]}, {"ip", "role"}),
    "admin and viewer": ({"expires_at": AT + timedelta(days=1), "roles": ["admin", "viewer"]}, {"ip", "role"}),
    "picked": ({"expires_at": AT + timedelta(days=1), "permissions": ["reports:read"]}, {"ip"}),
    "expired": ({"expires_at": AT + timedelta(minutes=1)}, set()),
}
LIMITS = {
    "none": {},
    "long": {"longest_lifetime": 30 * DAY},
    "never": {"may_never_expire": False},
    "ip": {"requires_ip_allowlist": True},
    "role": {"carries_all_roles": False},
}


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("owner", ["tenant", "user"])
def test_queryset_and_policy_agree_on_what_is_out_of_policy(world, frozen, limit, owner):
    frozen.move_to(AT - timedelta(hours=1))
    for name, (asked, _) in TABLE.items():
        expires = {"expires_at": AT - timedelta(seconds=1)} if name == "expired" else {}
        expiry = {**asked, **expires}
        token = world.acme.issue("admin", name=name, owner=owner, **{"roles": ["viewer"], **_picked(expiry)}).token
        if expiry["expires_at"] is None:
            ApiToken.objects.filter(pk=token.pk).update(expires_at=None)
    world.globex.issue("admin", name="of another type", owner="tenant", kind="client_credentials", roles=["admin"])
    row = cell(world, owner=owner)
    TokenType.objects.filter(pk=row.pk).update(default_lifetime=DAY, **LIMITS[limit])
    TokenTypeRole.objects.create(
        token_type=row, role=world.acme.role("viewer"), environment=world.production, owner=row.owner, kind=row.kind
    )
    found = set(ApiToken.objects.out_of_policy(at=AT).values_list("name", flat=True))
    rows = ApiToken.objects.select_related("token_type").with_suspicions()
    assert found == {row.name for row in rows if policy.beyond_type(row, at=AT)}
    assert found == {name for name, (_, beyond) in TABLE.items() if limit in beyond}


def _picked(asked):
    return {**asked, "roles": []} if "permissions" in asked else asked


@pytest.mark.parametrize("existing", ["leave", "cap", "disable"])
def test_the_vendor_says_what_becomes_of_tokens_beyond_a_new_limit(frozen, world, machine, existing):
    acme = world.acme
    far = acme.issue("admin", name="Far", expires_at=AT + timedelta(days=80))
    never = acme.issue("admin", name="Never")
    near = acme.issue("admin", name="Near", expires_at=AT + timedelta(days=10))
    ApiToken.objects.filter(pk=never.token.pk).update(expires_at=None)
    asked = {"longest_lifetime": 30 * DAY, "default_lifetime": 30 * DAY, "may_never_expire": False}
    assert change(world, {**asked, "existing": existing}).status_code == 200
    tokens = {token.name: token for token in ApiToken.objects.all()}
    latest = AT + timedelta(days=30)
    assert tokens["Near"].expires_at == near.token.expires_at
    beyond = set(ApiToken.objects.out_of_policy(at=AT).values_list("name", flat=True))
    events = AuditEvent.objects.filter(target_id__in=[far.token.id, never.token.id, near.token.id])
    after = sorted(event.verb for event in events.exclude(verb="apitoken.issued"))
    if existing == "leave":
        assert (beyond, after) == ({"Far", "Never"}, [])
        assert tokens["Far"].expires_at == far.token.expires_at
    elif existing == "cap":
        assert (beyond, after) == (set(), ["apitoken.edited"] * 2)
        assert tokens["Far"].expires_at == tokens["Never"].expires_at == latest
        event = events.get(target_id=far.token.id, verb="apitoken.edited")
        assert (event.before["expires_at"], event.after["expires_at"]) == (
            far.token.expires_at.isoformat(), latest.isoformat(),
        )  # fmt: skip
        assert event.tenant_id == acme.tenant.id
    else:
        assert (beyond, after) == ({"Far", "Never"}, ["apitoken.disabled"] * 2)
        assert [tokens[name].disabled_at for name in ("Far", "Never", "Near")] == [AT, AT, None]
        assert [tokens[name].generation for name in ("Far", "Never", "Near")] == [1, 1, 0]
    for issued, works in ((far, existing != "disable"), (never, existing != "disable"), (near, True)):
        status = machine.get("/api/v1/token/self", headers=bearer(issued.plaintext)).status_code
        assert status == (200 if works else 401)


def test_what_no_date_can_mend_stays_out_of_policy(frozen, world):
    world.acme.issue("admin", expires_at=AT + timedelta(days=10))
    assert change(world, {"requires_ip_allowlist": True, "existing": "cap"}).status_code == 200
    token = ApiToken.objects.out_of_policy(at=AT).get()
    assert token.expires_at == AT + timedelta(days=10)


def test_capping_a_token_caps_what_it_made(frozen, world, machine):
    parent = world.acme.issue_for_environment(name="Backend")
    sent = {"name": "Child", "kind": "access_token", "roles": ["viewer"], "tenant": str(world.acme.tenant.id)}
    made = machine.post(
        "/api/v1/tokens", sent, content_type="application/json", headers=bearer(parent.plaintext)
    ).json()
    asked = {"longest_lifetime": 30 * DAY, "default_lifetime": DAY, "may_never_expire": False, "existing": "cap"}
    assert change(world, asked, path="token-types/environment/access_token").status_code == 200
    child = ApiToken.objects.get(token_id=made["id"])
    assert child.expires_at == AT + timedelta(days=30)
    assert AuditEvent.objects.filter(target_id=child.id, verb="apitoken.edited").count() == 1


def test_a_tightened_limit_binds_what_is_made_and_what_is_edited(frozen, world):
    token = world.acme.issue("admin", expires_at=AT + timedelta(days=80)).token
    assert change(world, {"longest_lifetime": 90 * DAY}).status_code == 200
    assert change(world, {"longest_lifetime": 30 * DAY, "default_lifetime": DAY}).status_code == 200
    acme = world.acme
    new = {"name": "New", "kind": "access_token", "roles": ["viewer"]}
    for days, status in ((30, 201), (31, 400)):
        body = {**new, "name": f"New {days}", "expires_in": days * DAY}
        assert acme.api("admin", "POST", f"tokens?tenant={acme.tenant.id}", body).status_code == status
    assert acme.api("admin", "PATCH", f"tokens/{token.token_id}", {"expires_in": 31 * DAY}).status_code == 400
    assert acme.api("admin", "PATCH", f"tokens/{token.token_id}", {"name": "Renamed"}).status_code == 200
    assert acme.api("admin", "PATCH", f"tokens/{token.token_id}", {"expires_in": 30 * DAY}).status_code == 200
    assert not ApiToken.objects.out_of_policy(at=AT).exists()


def test_what_the_vendor_disabled_as_out_of_policy_is_enabled_within_the_limits_only(frozen, world):
    """Else a tenant's admin would undo it with one press: enabling is granting, by the limits of today."""
    acme, office = world.acme, world.office
    far = acme.issue("admin", name="Far", expires_at=AT + timedelta(days=80)).token
    vendors = acme.issue("admin", name="Vendor's", expires_at=AT + timedelta(days=80)).token
    asked = {"longest_lifetime": 30 * DAY, "default_lifetime": 30 * DAY, "existing": "disable"}
    assert change(world, asked).status_code == 200
    refused = acme.api("admin", "POST", f"tokens/{far.token_id}/enable")
    assert (refused.status_code, refused.json()["code"]) == (403, "out_of_policy")
    assert ApiToken.objects.get(pk=far.pk).disabled_at == AT
    assert acme.api("admin", "PATCH", f"tokens/{far.token_id}", {"expires_in": 30 * DAY}).status_code == 200
    assert acme.api("admin", "POST", f"tokens/{far.token_id}/enable").status_code == 200
    by_vendor = office.api("owner", "POST", f"tokens/{vendors.token_id}/enable", environment=world.production)
    assert by_vendor.status_code == 200


def test_a_dry_run_takes_as_many_queries_for_fifty_tokens_as_for_five(world):
    def queries():
        with CaptureQueriesContext(connection) as captured:
            impact(world, {"requires_ip_allowlist": True, "quota": 1})
        return len(captured)

    for number in range(5):
        world.acme.issue("admin", name=f"CI {number}")
    few = queries()
    for number in range(5, 50):
        world.acme.issue("admin", name=f"CI {number}")
    assert queries() == few


def test_the_systems_own_change_needs_nobodys_leave(world):
    from apitokens.governance import token_types

    changed = token_types.change(
        by=system(world.production), token_type=cell(world), change=token_types.TypeChange(quota=2), at=timezone.now()
    )
    assert changed.quota == 2


RACES = [
    pytest.param({"is_enabled": False}, "token_type_disabled", 403, id="switched-off"),
    pytest.param({"carries_all_roles": False}, "role_not_allowed", 403, id="role-no-more-carried"),
    pytest.param({"longest_lifetime": DAY, "default_lifetime": DAY}, "invalid", 400, id="shorter"),
]


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("limits", "code", "status"), RACES)
@pytest.mark.parametrize("undone", [False, True])
def test_a_change_of_the_type_that_comes_first_wins_over_a_grant_that_has_begun(world, limits, code, status, undone):
    call, row = issue(world.acme, roles=["viewer"], expires_in=2 * DAY), cell(world)
    with held(row, undone=undone):
        TokenType.objects.filter(pk=row.pk).update(**limits)
        granting = Call(call)
        wait_for_blocked(1)
    answer = granting.result()
    assert (answer.status_code, answer.json().get("code")) == ((201, None) if undone else (status, code))
    assert ApiToken.objects.count() == undone


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("undone", [False, True])
def test_a_change_of_the_type_that_comes_first_wins_over_an_extension_that_has_begun(world, undone):
    token, row = world.acme.issue("admin").token, cell(world)
    by = system(world.production)

    def extend():
        try:
            services.edit(by=by, token=token, at=timezone.now(), expiry=Expiry(seconds=80 * DAY))
        except services.InvalidField as refusal:
            return refusal.field
        return None

    with held(row, undone=undone):
        TokenType.objects.filter(pk=row.pk).update(longest_lifetime=DAY, default_lifetime=DAY)
        extending = Call(extend)
        wait_for_blocked(1)
    assert extending.result() == (None if undone else "expires_in")


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_a_grant_that_comes_first_is_seen_by_the_change_of_the_type(world):
    """The change waits for the grant, which waits for its role; then it caps what the grant made."""
    call, row = issue(world.acme, roles=["viewer"], expires_in=80 * DAY), cell(world)
    from apitokens.governance import token_types

    def tighten():
        limits = token_types.TypeChange(longest_lifetime=DAY, default_lifetime=DAY)
        token_types.change(
            by=system(world.production), token_type=row, change=limits, at=timezone.now(), existing="cap"
        )

    with held(world.acme.role("viewer")):
        granting = Call(call)
        wait_for_blocked(1)
        tightening = Call(tighten)
        wait_for_blocked(2)
    assert granting.result().status_code == 201
    tightening.result()
    assert ApiToken.objects.get().expires_at < timezone.now() + timedelta(days=1, seconds=1)
