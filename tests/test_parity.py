"""Everything that a page can do, a token with the same rights can do by REST: every page's address is in this table.

What spans environments is for people (a token acts inside one): there the twin takes the session of the vendor's owner.
"""

import json
import re
from uuid import uuid4

import pytest

from apitokens.setup import NOT_FOR_BACKENDS, hold
from tests.cast import bearer
from tests.doors import routes

# Where both doors lead to the same pages.
OF_TOKENS = {
    "": ["GET tokens"],
    "new/": ["POST tokens"],
    "ticked/": ["POST tokens/<str:token_id>/disable", "DELETE tokens/<str:token_id>"],
    "<str:token_id>/": ["GET tokens/<str:token_id>", "GET tokens/<str:token_id>/explain"],
    "<str:token_id>/edit/": ["PATCH tokens/<str:token_id>"],
    "<str:token_id>/take-over/": ["PATCH tokens/<str:token_id>"],
    "<str:token_id>/disable/": ["POST tokens/<str:token_id>/disable"],
    "<str:token_id>/enable/": ["POST tokens/<str:token_id>/enable"],
    "<str:token_id>/end-jwts/": ["POST tokens/<str:token_id>/end-jwts"],
    "<str:token_id>/delete/": ["DELETE tokens/<str:token_id>"],
    "<str:token_id>/rotate/": ["POST tokens/<str:token_id>/rotate"],
    "<str:token_id>/rotate/complete/": ["POST tokens/<str:token_id>/rotate/complete"],
    "<str:token_id>/rotate/cancel/": ["POST tokens/<str:token_id>/rotate/cancel"],
}
OF_ROLES = {
    "": ["GET roles", "PATCH roles"],
    "new/": ["POST roles"],
    "<uuid:role_id>/": ["GET roles/<uuid:role_id>"],
    "<uuid:role_id>/edit/": ["PATCH roles/<uuid:role_id>"],
    "<uuid:role_id>/delete/": ["DELETE roles/<uuid:role_id>"],
}
OF_SSO = {
    "": ["GET tenants/<uuid:tenant_id>/sso"],
    "edit/": ["PUT tenants/<uuid:tenant_id>/sso"],
    "enforce/": ["PUT tenants/<uuid:tenant_id>/sso"],
    "remove/": ["DELETE tenants/<uuid:tenant_id>/sso"],
    "<uuid:removed_id>/readmit/": ["POST tenants/<uuid:tenant_id>/sso/members/<uuid:removed_id>/readmit"],
}
TWINS = {
    **{f"{place}/tokens/{page}": twins for place in ("t", "console") for page, twins in OF_TOKENS.items()},
    **{f"{place}/roles/{page}": twins for place in ("t", "console") for page, twins in OF_ROLES.items()},
    **{f"{place}/audit{page}": ["GET events"] for place in ("t", "console") for page in ("/", ".csv")},
    **{f"{place}/usage/": ["GET usage"] for place in ("t", "console")},
    **{f"{place}/tokens.csv": ["GET tokens"] for place in ("t", "console")},
    "t/members/": ["GET members"],
    "t/members/invite/": ["POST invitations"],
    "t/members/invitations/": ["GET invitations"],
    "t/members/invitations/<uuid:invitation_id>/revoke/": ["DELETE invitations/<uuid:invitation_id>"],
    "t/members/<uuid:member_id>/": [
        "GET members/<uuid:member_id>", "PATCH members/<uuid:member_id>", "GET members/<uuid:member_id>/inventory",
    ],
    "t/members/<uuid:member_id>/suspend/": ["POST members/<uuid:member_id>/suspend"],
    "t/members/<uuid:member_id>/reinstate/": ["POST members/<uuid:member_id>/reinstate"],
    "t/members/<uuid:member_id>/remove/": ["DELETE members/<uuid:member_id>"],
    "console/all-tokens/": ["GET tokens"],
    "console/all-tokens/disable/": ["POST tokens/disable-all"],
    "console/keys/": ["GET signing-keys"],
    "console/keys/rotate/": ["POST signing-keys"],
    "console/keys/<str:kid>/compromised/": ["POST signing-keys/<str:kid>/compromised"],
    "console/permissions/": ["GET permissions"],
    "console/permissions/new/": ["POST permissions"],
    "console/permissions/<uuid:permission_id>/edit/": ["PATCH permissions/<uuid:permission_id>"],
    "console/permissions/<uuid:permission_id>/delete/": ["DELETE permissions/<uuid:permission_id>"],
    "console/token-types/": ["GET token-types"],
    "console/token-types/<str:owner>/<str:kind>/": [
        "GET token-types/<str:owner>/<str:kind>", "PATCH token-types/<str:owner>/<str:kind>",
    ],
    "console/tenants/": ["GET tenants"],
    "console/tenants/new/": ["POST tenants"],
    "console/tenants/<uuid:tenant_id>/": ["GET tenants/<uuid:tenant_id>"],
    "console/tenants/<uuid:tenant_id>/edit/": ["PATCH tenants/<uuid:tenant_id>"],
    "console/tenants/<uuid:tenant_id>/delete/": ["DELETE tenants/<uuid:tenant_id>"],
    "console/tenants/<uuid:tenant_id>/invite/": ["POST invitations"],
    "console/tenants/<uuid:tenant_id>/invitations/<uuid:tenant_invitation_id>/revoke/": [
        "DELETE invitations/<uuid:invitation_id>",
    ],
    **{
        f"console/tenants/<uuid:tenant_id>/members/<uuid:membership_id>/{verb}/": [
            f"POST members/<uuid:member_id>/{verb}",
        ]
        for verb in ("suspend", "reinstate")
    },
    **{
        f"console/tenants/<uuid:tenant_id>/{verb}/": [f"POST tenants/<uuid:tenant_id>/{verb}"]
        for verb in ("suspend", "reinstate", "restore")
    },
    **{
        f"{place}/sso/{page}": twins
        for place in ("t", "console/tenants/<uuid:tenant_id>")
        for page, twins in OF_SSO.items()
    },
    "console/": ["GET environments/<slug:slug>"],
    "console/settings/": ["GET environments/<slug:slug>", "PATCH environments/<slug:slug>"],
    "console/settings/brand/": ["GET environments/<slug:slug>/brand", "PATCH environments/<slug:slug>/brand"],
    **{
        f"console/settings/{verb}/": [f"POST environments/<slug:slug>/{verb}"]
        for verb in ("suspend", "reinstate")
    },
}  # fmt: skip
# Over more than one environment, or over the vendor itself: for its people alone.
OF_PEOPLE = {
    "console/settings/delete/": ["DELETE environments/<slug:slug>"],
    "console/settings/restore/": ["POST environments/<slug:slug>/restore"],
    "console/settings/environments/new/": ["GET environments", "POST environments"],
    "console/settings/copy/": ["POST environments/<slug:slug>/copy"],
    "console/people/": ["GET vendor-members"],
    "console/people/invite/": ["POST vendor-invitations"],
    "console/people/invitations/": ["GET vendor-invitations"],
    "console/people/invitations/<uuid:invitation_id>/revoke/": ["DELETE vendor-invitations/<uuid:invitation_id>"],
    "console/people/<uuid:member_id>/": [
        "GET vendor-members/<uuid:member_id>", "PATCH vendor-members/<uuid:member_id>",
    ],
    "console/people/<uuid:member_id>/remove/": ["DELETE vendor-members/<uuid:member_id>"],
    **{
        f"console/people/<uuid:member_id>/{verb}/": [f"POST vendor-members/<uuid:member_id>/{verb}"]
        for verb in ("suspend", "reinstate")
    },
}  # fmt: skip
# A person's own affair: a choice of doors, how they sign in, how pages look, a secret link, one's own seat.
NO_TWIN = {
    "", "theme/", "language/", "invitations/<str:key>/", "t/", "t/leave/", "sign-in/", "t/sign-in/",
    "t/sign-in/callback/",
    "t/sso/try/", "console/tenants/<uuid:tenant_id>/sso/try/",
}  # fmt: skip
REFUSALS_OF_DOORS = {401, 403, 405}


def pages():
    """The addresses of pages, without the slug that says where; but for how a person signs in, and what is theirs."""
    for route in routes():
        if not route.startswith(("account", "api/", "e/", "oauth2/", ".well-known", "healthz", "readyz", "metrics")):
            yield re.sub(r"^(t|console)/<slug:slug>/", r"\1/", route)


def test_every_page_names_what_does_the_same_by_rest():
    assert sorted({*TWINS, *OF_PEOPLE, *NO_TWIN}) == sorted(set(pages()))


def test_every_twin_is_an_operation_that_the_reference_shows(machine, world):
    paths = machine.get("/api/schema/", headers={"Accept": "application/vnd.oai.openapi+json"}).json()["paths"]
    shown = {(verb.upper(), path.removeprefix("/api/v1/")) for path, verbs in paths.items() for verb in verbs}
    for twin in {twin for twins in [*TWINS.values(), *OF_PEOPLE.values()] for twin in twins}:
        verb, route = twin.split()
        assert (verb, re.sub(r"<\w+:(\w+)>", r"{\1}", route)) in shown, twin


def address(world, route, token_id):
    """Something there is, where it can be told beforehand; else an id that leads to nothing."""
    known = {
        "slug": world.production.slug, "tenant_id": str(world.globex.tenant.id), "token_id": token_id,
        "owner": "tenant", "kind": "access_token", "member_id": str(world.acme.people["member"].id),
        "role_id": str(world.acme.role("viewer").id),
    }  # fmt: skip
    return "/api/v1/" + re.sub(r"<\w+:(\w+)>", lambda found: known.get(found[1]) or str(uuid4()), route)


def with_every_right(house):
    hold(house.role("backend"), NOT_FOR_BACKENDS)
    return house.issue_for_environment(name="Caller", kind="access_token")


@pytest.mark.parametrize("twin", sorted({twin for twins in TWINS.values() for twin in twins}))
def test_a_token_with_every_right_is_let_in(world, machine, twin):
    """What the body lacks is then said; that it may not come in never is."""
    acme = world.acme
    every_right = with_every_right(acme)
    token = acme.issue("admin").token
    verb, route = twin.split()
    inside = "tenants" not in route and "environments" not in route and "permissions" not in route
    where = (
        f"?tenant={acme.tenant.id}" if inside and route.split("/")[0] in {"members", "invitations", "tokens"} else ""
    )
    answer = machine.generic(
        verb, address(world, route, token.token_id) + where, data=json.dumps({}), content_type="application/json",
        headers=bearer(every_right.plaintext),
    )  # fmt: skip
    assert answer.status_code not in REFUSALS_OF_DOORS, answer.content
    assert answer.status_code < 500


@pytest.mark.parametrize("twin", sorted({twin for twins in OF_PEOPLE.values() for twin in twins}))
def test_what_spans_environments_takes_the_session_of_the_vendors_owner_and_no_token(world, machine, twin):
    verb, route = twin.split()
    path = address(world, route, "0" * 12)
    answer = world.office.api("owner", verb, path.removeprefix("/api/v1/"), {}, environment=world.production)
    assert answer.status_code not in REFUSALS_OF_DOORS, answer.content
    assert answer.status_code < 500
    every_right = with_every_right(world.acme)
    # A right body where the shape is looked at before the caller: what is refused is then the token.
    body = {
        "POST environments": {"name": "Trial", "slug": "trial", "audience": "https://trial.example"},
        "POST environments/<slug:slug>/copy": {"from": world.staging.slug},
        "DELETE environments/<slug:slug>": {"name": world.production.name},
    }.get(twin, {})
    by_token = machine.generic(
        verb, path, data=json.dumps(body), content_type="application/json", headers=bearer(every_right.plaintext)
    )
    # A token may look at its own environment, in the list as elsewhere.
    assert by_token.status_code == (200 if twin == "GET environments" else 403), by_token.content
