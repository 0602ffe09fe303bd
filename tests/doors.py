"""The doors of an environment, by address: what their owner is answered, and what an auditor lacks.

A row of CONSOLE is verb, address below `console/<environment>/`, fields, status, permission; one of ENVIRONMENT_API is
verb, address below `api/v1/`, body, status, permission. The permission is the one that a reader is told they lack, or
None where they are answered as their owner is. In this order all of them succeed. `test_console_doors` walks them.

PAGES and API are those of a tenant, which `test_doors` walks.

`<type:name>` in an address stands for IDS["name"].
"""

import re

from django.test import Client
from django.urls import URLPattern, get_resolver
from django.utils import timezone

from apitokens.governance import invitations, vendor_members
from apitokens.models import PortalSession
from apitokens.principals import system
from tenants.models import Permission, Role
from tests.cast import removed_from_sso

VERBS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
NEW = {"name": "New", "kind": "access_token", "roles": ["viewer"]}
INVITED = {"email": "new@example.com", "roles": ["viewer"]}


def _invited(world):
    asked = {"email": "somebody@vendor.example", "role": "auditor", "environments": None}
    return vendor_members.invite(by=system(world.production), at=timezone.now(), **asked).invitation


def _invited_to_acme(world):
    asked = {"email": "somebody@acme.example", "roles": ["viewer"], "at": timezone.now()}
    return invitations.invite(by=system(world.production), tenant=world.acme.tenant, **asked).invitation


def _portal_session(world):
    token = world.acme.issue_for_environment(name="Opener").plaintext
    body = {"tenant": str(world.acme.tenant.id), "user": {"id": "somebody"}, "roles": ["viewer"]}
    headers = {"Authorization": f"Bearer {token}"}
    Client().post("/api/v1/portal-sessions", body, content_type="application/json", headers=headers)
    return PortalSession.objects.get()


def _role(world):
    """Made for this, and first in the matrix."""
    fields = {"environment": world.production, "key": "door-keeper"}
    return Role.objects.filter(**fields).first() or Role.objects.create(**fields, name="Door keeper", level=1)


def _permission(world):
    return Permission.objects.get_or_create(environment=world.production, key="doors:open")[0]


IDS = {
    "kid": lambda world: world.production.signing_keys.get(state="active").kid,
    "slug": lambda world: world.production.slug,
    "staging": lambda world: world.staging.slug,
    "tenant_id": lambda world: str(world.acme.tenant.id),
    "token_id": lambda world: world.acme.issue_for_environment(name="Door").token.token_id,
    "owner": lambda world: "tenant",
    "kind": lambda world: "access_token",
    "member_id": lambda world: str(world.office.people["admin"].id),
    "role_id": lambda world: str(_role(world).id),
    "permission_id": lambda world: str(_permission(world).id),
    "membership_id": lambda world: str(world.acme.people["member"].id),
    "tenant_invitation_id": lambda world: str(_invited_to_acme(world).id),
    "invitation_id": lambda world: str(_invited(world).id),
    "removed_id": lambda world: str(removed_from_sso(world.acme).id),
    "session_id": lambda world: str(_portal_session(world).id),
}

_SETTINGS = {
    "name": "Live",
    "colour": "red",
    "api_identifiers": "https://api.example",
    "strict_ceiling": "on",
    "embedding_origins": "https://app.bolt.example",
    "reauthenticate_after_0": "15",
    "reauthenticate_after_1": "60",
    "signing_algorithm": "ES256",
}
_SSO = {"issuer": "https://127.0.0.1", "client_id": "portal", "roles": "viewer"}
# The vendor's people are those of all its environments, and nothing of a token's.
OF_THE_VENDOR = ("people/", "vendor-")
_BACKEND = {"name": "New", "owner": "environment", "kind": "access_token", "roles": "backend"}
_DAYS = {"default_lifetime_0": "90", "default_lifetime_1": "86400", "longest_lifetime_1": "none"}
_TYPE = {**_DAYS, "is_enabled": "on", "longest_overlap_0": "1", "longest_overlap_1": "86400", "carries": "all"}
_AUDITOR = {"role": "auditor", "reach": "all"}
_INVITED = {"email": "new@vendor.example", "role": "auditor", "environments": None}
CONSOLE = [
    ("GET", "", {}, 200, None),
    ("GET", "keys/", {}, 200, None),
    ("GET", "keys/rotate/", {}, 200, "signing-keys:create"),
    ("POST", "keys/rotate/", {}, 302, "signing-keys:create"),
    ("GET", "keys/<str:kid>/compromised/", {}, 200, "signing-keys:delete"),
    ("POST", "keys/<str:kid>/compromised/", {"name": "<str:kid>"}, 302, "signing-keys:delete"),
    ("GET", "settings/", {}, 200, None),
    ("POST", "settings/", _SETTINGS, 302, "environments:create"),
    ("GET", "settings/environments/new/", {}, 200, "environments:create"),
    (
        "POST",
        "settings/environments/new/",
        {"name": "Trial", "slug": "trial", "audience": "https://trial.example", "colour": "grey"},
        302,
        "environments:create",
    ),
    ("GET", "settings/copy/?from=<slug:staging>", {}, 200, "environments:create"),
    ("POST", "settings/copy/?from=<slug:staging>", {"source": "<slug:staging>"}, 302, "environments:create"),
    ("GET", "tenants/", {}, 200, None),
    ("GET", "tenants/new/", {}, 200, "tenants:create"),
    ("POST", "tenants/new/", {"name": "Initech", "slug": "initech"}, 302, "tenants:create"),
    ("GET", "tenants/<uuid:tenant_id>/", {}, 200, None),
    ("GET", "tenants/<uuid:tenant_id>/edit/", {}, 200, "tenants:create"),
    ("POST", "tenants/<uuid:tenant_id>/edit/", {"name": "Acme", "external_id": "acme"}, 302, "tenants:create"),
    (
        "POST",
        "tenants/<uuid:tenant_id>/invite/",
        {"email": "new@acme.example", "roles": "admin"},
        200,
        "members:create",
    ),
    (
        "POST",
        "tenants/<uuid:tenant_id>/invitations/<uuid:tenant_invitation_id>/revoke/",
        {},
        302,
        "members:delete",
    ),
    ("POST", "tenants/<uuid:tenant_id>/members/<uuid:membership_id>/suspend/", {}, 302, "members:delete"),
    ("POST", "tenants/<uuid:tenant_id>/members/<uuid:membership_id>/reinstate/", {}, 302, "members:create"),
    ("GET", "tenants/<uuid:tenant_id>/sso/", {}, 200, None),
    ("GET", "tenants/<uuid:tenant_id>/sso/edit/", {}, 200, "sso:create"),
    ("POST", "tenants/<uuid:tenant_id>/sso/edit/", _SSO, 302, "sso:create"),
    ("POST", "tenants/<uuid:tenant_id>/sso/try/", {}, 502, "sso:create"),
    ("POST", "tenants/<uuid:tenant_id>/sso/<uuid:removed_id>/readmit/", {}, 302, "members:create"),
    ("GET", "tenants/<uuid:tenant_id>/sso/enforce/", {}, 200, "sso:create"),
    ("POST", "tenants/<uuid:tenant_id>/sso/enforce/", {}, 422, "sso:create"),
    ("GET", "tenants/<uuid:tenant_id>/sso/remove/", {}, 200, "sso:delete"),
    ("POST", "tenants/<uuid:tenant_id>/sso/remove/", {}, 302, "sso:delete"),
    ("GET", "tenants/<uuid:tenant_id>/suspend/", {}, 200, "tenants:delete"),
    ("POST", "tenants/<uuid:tenant_id>/suspend/", {}, 302, "tenants:delete"),
    ("POST", "tenants/<uuid:tenant_id>/reinstate/", {}, 302, "tenants:create"),
    ("GET", "tenants/<uuid:tenant_id>/delete/", {}, 200, "tenants:delete"),
    ("POST", "tenants/<uuid:tenant_id>/delete/", {"name": "Acme"}, 302, "tenants:delete"),
    ("POST", "tenants/<uuid:tenant_id>/restore/", {}, 302, "tenants:create"),
    ("GET", "token-types/", {}, 200, None),
    ("GET", "token-types/<str:owner>/<str:kind>/", {}, 200, None),
    ("POST", "token-types/<str:owner>/<str:kind>/", _TYPE, 302, "token-types:create"),
    ("GET", "all-tokens/", {}, 200, None),
    ("POST", "all-tokens/", {"q": "Nothing is called like this"}, 200, None),
    ("GET", "all-tokens/disable/?owner=environment", {}, 200, "environment-tokens:delete"),
    ("POST", "all-tokens/disable/", {"owner": "environment", "expected": "2"}, 302, "environment-tokens:delete"),
    ("GET", "tokens/", {}, 200, None),
    ("POST", "tokens/", {"q": "Any"}, 302, None),
    ("GET", "tokens/ticked/", {}, 302, None),
    ("POST", "tokens/ticked/", {"act": "delete", "token": "<str:token_id>"}, 200, None),
    ("GET", "tokens/<str:token_id>/", {}, 200, None),
    ("POST", "tokens/<str:token_id>/enable/", {}, 302, "environment-tokens:create"),
    ("POST", "tokens/<str:token_id>/disable/", {}, 302, "environment-tokens:delete"),
    ("POST", "tokens/<str:token_id>/end-jwts/", {}, 302, "environment-tokens:delete"),
    ("GET", "tokens/<str:token_id>/edit/", {}, 200, "environment-tokens:create"),
    ("POST", "tokens/<str:token_id>/edit/", {"name": "Renamed"}, 302, "environment-tokens:create"),
    ("GET", "tokens/<str:token_id>/take-over/", {}, 200, "environment-tokens:create"),
    ("POST", "tokens/<str:token_id>/take-over/", {"permissions": "no:such"}, 422, "environment-tokens:create"),
    ("GET", "tokens/<str:token_id>/rotate/", {}, 200, "environment-tokens:create"),
    ("POST", "tokens/<str:token_id>/rotate/", {"overlap": "3600"}, 200, "environment-tokens:create"),
    ("GET", "tokens/<str:token_id>/rotate/cancel/", {}, 200, "environment-tokens:create"),
    ("POST", "tokens/<str:token_id>/rotate/cancel/", {}, 302, "environment-tokens:create"),
    ("POST", "tokens/<str:token_id>/rotate/", {"overlap": "3600"}, 200, "environment-tokens:create"),
    ("GET", "tokens/<str:token_id>/rotate/complete/", {}, 200, "environment-tokens:delete"),
    ("POST", "tokens/<str:token_id>/rotate/complete/", {}, 302, "environment-tokens:delete"),
    ("GET", "tokens/<str:token_id>/delete/", {}, 200, "environment-tokens:delete"),
    ("POST", "tokens/<str:token_id>/delete/", {}, 302, "environment-tokens:delete"),
    ("GET", "tokens/new/", {}, 200, "environment-tokens:create"),
    ("POST", "tokens/new/", _BACKEND, 200, "environment-tokens:create"),
    ("GET", "roles/", {}, 200, None),
    ("POST", "roles/", {"l0": "2", "step": "save"}, 302, "roles:create"),
    ("GET", "roles/new/", {}, 200, "roles:create"),
    ("POST", "roles/new/", {"name": "Clerk", "level": "1"}, 302, "roles:create"),
    ("GET", "roles/<uuid:role_id>/", {}, 200, None),
    ("GET", "roles/<uuid:role_id>/edit/", {}, 200, "roles:create"),
    ("POST", "roles/<uuid:role_id>/edit/", {"name": "Keeper", "level": "1"}, 302, "roles:create"),
    ("GET", "roles/<uuid:role_id>/delete/", {}, 200, "roles:delete"),
    ("POST", "roles/<uuid:role_id>/delete/", {}, 302, "roles:delete"),
    ("GET", "permissions/", {}, 200, None),
    ("GET", "permissions/new/", {}, 200, "permissions:create"),
    ("POST", "permissions/new/", {"key": "new:thing"}, 302, "permissions:create"),
    ("GET", "permissions/<uuid:permission_id>/edit/", {}, 200, "permissions:create"),
    ("POST", "permissions/<uuid:permission_id>/edit/", {"description": "Open"}, 302, "permissions:create"),
    ("GET", "permissions/<uuid:permission_id>/delete/", {}, 200, "permissions:delete"),
    ("POST", "permissions/<uuid:permission_id>/delete/", {}, 302, "permissions:delete"),
    ("GET", "people/", {}, 200, None),
    ("GET", "people/invitations/", {}, 200, None),
    ("GET", "people/invite/", {}, 200, "environments:create"),
    ("POST", "people/invite/", {**_AUDITOR, "email": "new@vendor.example"}, 200, "environments:create"),
    ("POST", "people/invitations/<uuid:invitation_id>/revoke/", {}, 302, "environments:delete"),
    ("GET", "people/<uuid:member_id>/", {}, 200, None),
    ("POST", "people/<uuid:member_id>/", _AUDITOR, 302, "environments:create"),
    ("POST", "people/<uuid:member_id>/suspend/", {}, 302, "environments:delete"),
    ("POST", "people/<uuid:member_id>/reinstate/", {}, 302, "environments:create"),
    ("GET", "people/<uuid:member_id>/remove/", {}, 200, "environments:delete"),
    ("POST", "people/<uuid:member_id>/remove/", {}, 302, "environments:delete"),
    ("GET", "usage/", {}, 200, None),
    ("GET", "audit/", {}, 200, None),
    ("GET", "audit.csv", {}, 200, None),
    ("GET", "tokens.csv", {}, 200, None),
    ("GET", "settings/brand/", {}, 200, None),
    ("POST", "settings/brand/", {"name": "Bolt", "accent": "#2f6fde"}, 302, "environments:create"),
    ("GET", "settings/suspend/", {}, 200, "environments:delete"),
    ("POST", "settings/suspend/", {}, 302, "environments:delete"),
    ("POST", "settings/reinstate/", {}, 302, "environments:create"),
    ("GET", "settings/delete/", {}, 200, "environments:delete"),
    ("POST", "settings/delete/", {"name": "Live"}, 302, "environments:delete"),
    ("POST", "settings/restore/", {}, 302, "environments:create"),
]
ENVIRONMENT_API = [
    ("GET", "portal-sessions", None, 200, None),
    ("DELETE", "portal-sessions/<uuid:session_id>", None, 204, "portal-sessions:delete"),
    ("DELETE", "portal-sessions?user=somebody", None, 204, "portal-sessions:delete"),
    ("GET", "environments", None, 200, None),
    (
        "POST",
        "environments",
        {"name": "Trial", "slug": "trial", "audience": "https://trial.example"},
        201,
        "environments:create",
    ),
    ("GET", "signing-keys", None, 200, None),
    ("POST", "signing-keys", None, 201, "signing-keys:create"),
    ("POST", "signing-keys/<str:kid>/compromised", None, 200, "signing-keys:delete"),
    ("GET", "environments/<slug:slug>", None, 200, None),
    ("PATCH", "environments/<slug:slug>", {"name": "Live"}, 200, "environments:create"),
    ("GET", "environments/<slug:slug>/brand", None, 200, None),
    ("PATCH", "environments/<slug:slug>/brand", {"name": "Bolt"}, 200, "environments:create"),
    ("POST", "environments/<slug:slug>/copy", {"from": "<slug:staging>"}, 200, "environments:create"),
    ("GET", "token-types", None, 200, None),
    ("GET", "token-types/<str:owner>/<str:kind>", None, 200, None),
    ("PATCH", "token-types/<str:owner>/<str:kind>", {"quota": 3}, 200, "token-types:create"),
    ("GET", "vendor-members", None, 200, None),
    ("GET", "vendor-members/<uuid:member_id>", None, 200, None),
    ("PATCH", "vendor-members/<uuid:member_id>", {"role": "auditor"}, 200, "environments:create"),
    ("POST", "vendor-members/<uuid:member_id>/suspend", None, 200, "environments:delete"),
    ("POST", "vendor-members/<uuid:member_id>/reinstate", None, 200, "environments:create"),
    ("DELETE", "vendor-members/<uuid:member_id>", None, 204, "environments:delete"),
    ("GET", "vendor-invitations", None, 200, None),
    ("POST", "vendor-invitations", _INVITED, 201, "environments:create"),
    ("DELETE", "vendor-invitations/<uuid:invitation_id>", None, 204, "environments:delete"),
    ("GET", "permissions", None, 200, None),
    ("POST", "permissions", {"key": "new:thing"}, 201, "permissions:create"),
    ("GET", "permissions/<uuid:permission_id>", None, 200, None),
    ("PATCH", "permissions/<uuid:permission_id>", {"description": "Open"}, 200, "permissions:create"),
    ("DELETE", "permissions/<uuid:permission_id>", None, 204, "permissions:delete"),
    ("GET", "tenants", None, 200, None),
    ("POST", "tenants", {"name": "Initech", "slug": "initech"}, 201, "tenants:create"),
    ("GET", "tenants/<uuid:tenant_id>", None, 200, None),
    ("PATCH", "tenants/<uuid:tenant_id>", {"name": "Acme", "external_id": "acme"}, 200, "tenants:create"),
    ("GET", "tenants/<uuid:tenant_id>/sso", None, 200, None),
    ("PUT", "tenants/<uuid:tenant_id>/sso", {**_SSO, "roles": ["viewer"]}, 200, "sso:create"),
    ("POST", "tenants/<uuid:tenant_id>/sso/members/<uuid:removed_id>/readmit", None, 200, "members:create"),
    ("DELETE", "tenants/<uuid:tenant_id>/sso", None, 204, "sso:delete"),
    ("POST", "tenants/<uuid:tenant_id>/suspend", None, 200, "tenants:delete"),
    ("POST", "tenants/<uuid:tenant_id>/reinstate", None, 200, "tenants:create"),
    ("DELETE", "tenants/<uuid:tenant_id>", {"name": "Acme"}, 200, "tenants:delete"),
    ("POST", "tenants/<uuid:tenant_id>/restore", None, 200, "tenants:create"),
    ("POST", "environments/<slug:slug>/suspend", None, 200, "environments:delete"),
    ("POST", "environments/<slug:slug>/reinstate", None, 200, "environments:create"),
    ("DELETE", "environments/<slug:slug>", {"name": "Live"}, 200, "environments:delete"),
    ("POST", "environments/<slug:slug>/restore", None, 200, "environments:create"),
]
# verb, address, body, what its owner is answered. In this order they all succeed on one token.
PAGES = [
    ("GET", "t/<slug:slug>/", {}, 302),
    ("GET", "t/<slug:slug>/tokens/", {}, 200),
    ("GET", "t/<slug:slug>/tokens/new/", {}, 200),
    ("POST", "t/<slug:slug>/tokens/new/", {**NEW, "owner": "tenant"}, 200),
    ("GET", "t/<slug:slug>/tokens/ticked/", {}, 302),
    ("POST", "t/<slug:slug>/tokens/ticked/", {"act": "disable"}, 302),
    ("GET", "t/<slug:slug>/tokens/<str:token_id>/", {}, 200),
    ("GET", "t/<slug:slug>/tokens/<str:token_id>/edit/", {}, 200),
    ("POST", "t/<slug:slug>/tokens/<str:token_id>/edit/", {"name": "Renamed"}, 302),
    ("POST", "t/<slug:slug>/tokens/<str:token_id>/disable/", {}, 302),
    ("POST", "t/<slug:slug>/tokens/<str:token_id>/enable/", {}, 302),
    ("POST", "t/<slug:slug>/tokens/<str:token_id>/end-jwts/", {}, 302),
    ("GET", "t/<slug:slug>/tokens/<str:token_id>/rotate/", {}, 200),
    ("POST", "t/<slug:slug>/tokens/<str:token_id>/rotate/", {"overlap": "3600"}, 200),
    ("GET", "t/<slug:slug>/tokens/<str:token_id>/rotate/cancel/", {}, 200),
    ("POST", "t/<slug:slug>/tokens/<str:token_id>/rotate/cancel/", {}, 302),
    ("POST", "t/<slug:slug>/tokens/<str:token_id>/rotate/", {"overlap": "3600"}, 200),
    ("GET", "t/<slug:slug>/tokens/<str:token_id>/rotate/complete/", {}, 200),
    ("POST", "t/<slug:slug>/tokens/<str:token_id>/rotate/complete/", {}, 302),
    ("GET", "t/<slug:slug>/tokens/<str:token_id>/take-over/", {}, 200),
    ("POST", "t/<slug:slug>/tokens/<str:token_id>/take-over/", {"permissions": "settings:manage"}, 422),
    ("GET", "t/<slug:slug>/tokens/<str:token_id>/delete/", {}, 200),
    ("GET", "t/<slug:slug>/usage/", {}, 200),
    ("GET", "t/<slug:slug>/audit/", {}, 200),
    ("GET", "t/<slug:slug>/audit.csv", {}, 200),
    ("GET", "t/<slug:slug>/tokens.csv", {}, 200),
    ("POST", "t/<slug:slug>/tokens/<str:token_id>/delete/", {}, 302),
    ("GET", "t/<slug:slug>/roles/", {}, 200),
    ("GET", "t/<slug:slug>/roles/new/", {}, 200),
    ("POST", "t/<slug:slug>/roles/new/", {"name": "Clerk", "level": "1"}, 302),
    ("GET", "t/<slug:slug>/roles/<uuid:role_id>/", {}, 200),
    ("GET", "t/<slug:slug>/roles/<uuid:role_id>/edit/", {}, 200),
    ("POST", "t/<slug:slug>/roles/<uuid:role_id>/edit/", {"name": "Clerk", "level": "1", "version": "0"}, 422),
    ("GET", "t/<slug:slug>/roles/<uuid:role_id>/delete/", {}, 200),
    ("POST", "t/<slug:slug>/roles/<uuid:role_id>/delete/", {"version": "0"}, 422),
    ("GET", "t/<slug:slug>/members/", {}, 200),
    ("GET", "t/<slug:slug>/members/invite/", {}, 200),
    ("POST", "t/<slug:slug>/members/invite/", INVITED, 200),
    ("GET", "t/<slug:slug>/members/invitations/", {}, 200),
    ("POST", "t/<slug:slug>/members/invitations/<uuid:invitation_id>/revoke/", {}, 302),
    ("GET", "t/<slug:slug>/members/<uuid:member_id>/", {}, 200),
    ("POST", "t/<slug:slug>/members/<uuid:member_id>/", {"roles": ["viewer"], "version": "0"}, 422),
    ("POST", "t/<slug:slug>/members/<uuid:member_id>/suspend/", {}, 302),
    ("POST", "t/<slug:slug>/members/<uuid:member_id>/reinstate/", {}, 302),
    ("GET", "t/<slug:slug>/members/<uuid:member_id>/remove/", {}, 200),
    ("POST", "t/<slug:slug>/members/<uuid:member_id>/remove/", {}, 302),
    ("GET", "t/<slug:slug>/sso/", {}, 200),
    ("GET", "t/<slug:slug>/sso/edit/", {}, 200),
    ("POST", "t/<slug:slug>/sso/edit/", {}, 422),
    ("POST", "t/<slug:slug>/sso/try/", {}, 502),
    ("POST", "t/<slug:slug>/sso/<uuid:removed_id>/readmit/", {}, 302),
    ("GET", "t/<slug:slug>/sso/enforce/", {}, 200),
    ("POST", "t/<slug:slug>/sso/enforce/", {}, 422),
    ("GET", "t/<slug:slug>/sso/remove/", {}, 200),
    ("POST", "t/<slug:slug>/sso/remove/", {}, 422),
    ("GET", "t/<slug:slug>/leave/", {}, 200),
    ("POST", "t/<slug:slug>/leave/", {}, 302),
]
API = [
    ("GET", "api/v1/tokens", None, 200),
    ("HEAD", "api/v1/tokens", None, 200),
    ("POST", "api/v1/tokens", NEW, 201),
    ("GET", "api/v1/tokens/<str:token_id>", None, 200),
    ("HEAD", "api/v1/tokens/<str:token_id>", None, 200),
    ("PATCH", "api/v1/tokens/<str:token_id>", {"name": "Renamed"}, 200),
    ("POST", "api/v1/tokens/<str:token_id>/disable", None, 200),
    ("POST", "api/v1/tokens/<str:token_id>/enable", None, 200),
    ("POST", "api/v1/tokens/<str:token_id>/end-jwts", None, 200),
    ("POST", "api/v1/tokens/<str:token_id>/rotate", None, 201),
    ("POST", "api/v1/tokens/<str:token_id>/rotate/cancel", None, 200),
    ("POST", "api/v1/tokens/<str:token_id>/rotate", {"overlap": 60}, 201),
    ("POST", "api/v1/tokens/<str:token_id>/rotate/complete", None, 200),
    ("POST", "api/v1/tokens/disable-all", {"q": "Nothing is called like this"}, 200),
    ("GET", "api/v1/tokens/<str:token_id>/explain", None, 200),
    ("HEAD", "api/v1/tokens/<str:token_id>/explain", None, 200),
    ("DELETE", "api/v1/tokens/<str:token_id>", None, 204),
    ("GET", "api/v1/roles", None, 200),
    ("HEAD", "api/v1/roles", None, 200),
    ("POST", "api/v1/roles", {"name": "Clerk", "level": 1}, 201),
    ("PATCH", "api/v1/roles", {"roles": [{"id": "<uuid:role_id>", "level": 2}]}, 200),
    ("GET", "api/v1/roles/<uuid:role_id>", None, 200),
    ("HEAD", "api/v1/roles/<uuid:role_id>", None, 200),
    ("PATCH", "api/v1/roles/<uuid:role_id>", {"level": 2}, 200),
    ("DELETE", "api/v1/roles/<uuid:role_id>", None, 204),
    ("GET", "api/v1/members", None, 200),
    ("HEAD", "api/v1/members", None, 200),
    ("GET", "api/v1/members/<uuid:member_id>", None, 200),
    ("HEAD", "api/v1/members/<uuid:member_id>", None, 200),
    ("PATCH", "api/v1/members/<uuid:member_id>", {"roles": ["viewer"]}, 200),
    ("POST", "api/v1/members/<uuid:member_id>/suspend", None, 200),
    ("POST", "api/v1/members/<uuid:member_id>/reinstate", None, 200),
    ("GET", "api/v1/members/<uuid:member_id>/inventory", None, 200),
    ("HEAD", "api/v1/members/<uuid:member_id>/inventory", None, 200),
    ("DELETE", "api/v1/members/<uuid:member_id>", None, 204),
    ("GET", "api/v1/invitations", None, 200),
    ("HEAD", "api/v1/invitations", None, 200),
    ("POST", "api/v1/invitations", INVITED, 201),
    ("DELETE", "api/v1/invitations/<uuid:invitation_id>", None, 204),
    ("GET", "api/v1/events", None, 200),
    ("HEAD", "api/v1/events", None, 200),
    ("GET", "api/v1/usage", None, 200),
    ("HEAD", "api/v1/usage", None, 200),
]
# Answered for every person of the vendor, of whichever environment: a list of what they cover themselves.
OWN_LISTS = {"environments"}


def console_routes() -> set[str]:
    return {f"console/<slug:slug>/{route.partition('?')[0]}" for _, route, _, _, _ in CONSOLE}


def environment_api_routes() -> set[str]:
    return {f"api/v1/{route.partition('?')[0]}" for _, route, _, _, _ in ENVIRONMENT_API}


def routes(patterns=None, before=""):
    """Every address of Django's own URL map."""
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        route = before + str(pattern.pattern)
        if isinstance(pattern, URLPattern):
            yield re.sub(r"\(\?P(<\w+>)[^)]*\)", r"\1", route).strip("^$")
        else:
            yield from routes(pattern.url_patterns, route)


def seen(response):
    """All that a stranger sees, without what is new in every answer."""
    body = re.sub(rb'(name="(?:csrfmiddlewaretoken|nonce)" value=)"[^"]+"', rb"\1", response.content)
    headers = {name: value for name, value in response.headers.items() if name != "X-Request-Id"}
    return response.status_code, headers, body
