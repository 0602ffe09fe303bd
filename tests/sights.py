"""What the demo lacks for every page to have something to show: tokens in all states, weeks of use, more people.

It is run inside the server (`python manage.py shell`), since some of it lies in the past.
"""

import json
import math
from datetime import datetime, timedelta

from django.utils import timezone

from apitokens import principals, rotation, services
from apitokens.governance import branding, invitations, members, roles, tenants, vendor_members
from apitokens.models import ApiToken, UsageHour
from tenants.models import Environment, Membership, Permission, Role, Tenant, VendorMembership
from tests.cast import House, make_people, removed_from_sso

DAY = timedelta(days=1)
SATURDAY = 5


def seed() -> None:
    """Prints the ids that addresses are made of, as one JSON object."""
    at = timezone.now()
    production = Environment.objects.get(slug="acorn-production")
    by = principals.system(production)
    birch = Tenant.objects.get(slug="birch")
    house = House(production, birch, _people(birch))
    tokens = _tokens(house, at)
    backend = _backend(house, at)
    branding.change(by=by, environment=production, at=at, name="Acorn Analytics", accent="#8544ab")
    elm = tenants.create(by=by, name="Elm Energy", slug="elm", external_id="elm-001", at=at)
    make_people(elm)
    newcomer = make_people(birch).people["viewer"]
    members.suspend(by=by, membership=newcomer, at=at)
    invited = invitations.invite(by=by, tenant=birch, email="robin@birch.example", roles=["member"], at=at)
    vendor_members.invite(by=by, email="sam@acorn.example", role="auditor", environments=None, at=at)
    for place in (house, House(production, elm, {})):
        removed_from_sso(place)
    held = ["reports:read", "apitokens:read"]
    roles.create(by=by, tenant=birch, key="own:reader", name="Reader", level=5, permissions=held, at=at)
    ids = {
        "slug": birch.slug,
        "environment": production.slug,
        "staging": Environment.objects.get(slug="acorn-staging").slug,
        "token_id": tokens["Nightly export"].token_id,
        "rotating_id": tokens["Billing sync"].token_id,
        "disabled_id": tokens["Old importer"].token_id,
        "environment_token_id": backend["Provisioning"].token_id,
        "environment_rotating_id": backend["Gateway"].token_id,
        "role_id": str(Role.objects.get(tenant=birch, key="own:reader").id),
        "vendor_role_id": str(Role.objects.get(environment=production, tenant=None, key="member").id),
        "permission_id": str(Permission.objects.get(environment=production, key="reports:write").id),
        "member_id": str(house.people["member"].id),
        "suspended_id": str(newcomer.id),
        "vendor_member_id": str(VendorMembership.objects.get(vendor=production.vendor).id),
        "tenant_id": str(elm.id),
        "kid": production.signing_keys.get(state="active").kid,
        "invitation": invited.link.rstrip("/").rpartition("/")[2],
    }
    print(json.dumps(ids))


def _people(tenant: Tenant) -> dict[str, Membership]:
    found = Membership.objects.filter(tenant=tenant).select_related("user").prefetch_related("roles").order_by("pk")
    return {role.key: member for member in reversed(found) for role in member.roles.all()}


def _tokens(house: House, at: datetime) -> dict[str, ApiToken]:
    year = 365 * DAY
    service = {"role": "admin", "kind": "client_credentials", "roles": ["member"]}
    board = {"role": "owner", "kind": "access_token", "roles": ["viewer"]}
    told = "Fills the data warehouse."
    made = {
        token.name: token
        for token in [
            _made(house, at, 61, year, name="Nightly export", description=told, **service),
            _made(house, at, 34, 90 * DAY, name="CI deploy", **{**board, "role": "admin"}),
            _made(house, at, 200, year, name="Billing sync", **service),
            _made(house, at, 80, 86 * DAY, name="Partner feed", **service),
            _made(house, at, 300, year, name="Old importer", **service),
            _made(house, at, 3, 30 * DAY, name="Notebook", role="admin", kind="access_token", owner="user"),
            _made(house, at, 9, 30 * DAY, name="Status board", **board),
        ]
    }
    by = principals.system(house.environment)
    rotation.rotate(by=by, token=made["Billing sync"], at=at, overlap=12 * 3600)
    services.disable(by=by, token=made["Old importer"], at=at)
    for name, hours, ip in [
        ("Nightly export", 2, "203.0.113.7"), ("CI deploy", 1, "198.51.100.20"), ("Billing sync", 0.2, "203.0.113.9"),
        ("Old importer", 90 * 24, "192.0.2.4"),
    ]:  # fmt: skip
        used = at - timedelta(hours=hours)
        ApiToken.objects.filter(pk=made[name].pk).update(last_used_at=used, last_used_ip=ip)
        _use(made[name], at)
    return made


def _backend(house: House, at: datetime) -> dict[str, ApiToken]:
    made = {name: house.issue_for_environment(name=name).token for name in ("Provisioning", "Gateway")}
    rotation.rotate(by=principals.system(house.environment), token=made["Gateway"], at=at, overlap=12 * 3600)
    for token in made.values():
        _use(token, at)
    return made


def _made(house: House, at: datetime, days: int, lifetime: timedelta, *, role: str, **asked: object) -> ApiToken:
    """As if so many days ago."""
    token, began = house.issue(role, **asked).token, at - days * DAY
    ApiToken.objects.filter(pk=token.pk).update(created_at=began, expires_at=began + lifetime)
    token.refresh_from_db()
    return token


def _use(token: ApiToken, at: datetime) -> None:
    """By the hour for a month, less by night and at weekends, with a refusal now and then."""
    scope, hour = token.tenant_id or token.environment_id, at.replace(minute=0, second=0, microsecond=0)
    rows = []
    for back in range(30 * 24):
        when = hour - timedelta(hours=back)
        busy = 0.4 if when.weekday() >= SATURDAY else 1
        count = round(busy * (40 + 30 * math.sin(when.hour / 24 * 2 * math.pi) + 7 * math.sin(back)))
        counts = {"accepted": count, "granted": count // 9, "unusable": 3 if back % 53 == 0 else 0}
        rows += [
            UsageHour(
                environment_id=token.environment_id,
                scope_id=scope,
                token_id=token.id,
                hour=when,
                outcome=outcome,
                count=n,
            )
            for outcome, n in counts.items()
            if n
        ]
    UsageHour.objects.bulk_create(rows, ignore_conflicts=True)
