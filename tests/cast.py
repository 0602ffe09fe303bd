"""The cast: one vendor with two environments; Acme and Globex in production, Acme's twin in staging.

In each tenant four people: Vera the viewer, Mo the member, Ada the admin, Olga the owner, by the names of their roles.
The vendor's API knows `reports:read` (all), `reports:write` (members and up), `settings:manage` (admins and owners) and
`billing:manage` (owners), on top of the built-in permissions.
"""

import json
import re
from base64 import b64encode
from dataclasses import dataclass
from html import unescape
from types import SimpleNamespace
from urllib.parse import urlencode
from uuid import uuid4

import jwt as pyjwt
from allauth.account.internal.flows.login import AUTHENTICATION_METHODS_SESSION_KEY, record_authentication
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from django.conf import settings
from django.db import connection
from django.test import Client
from django.utils import timezone

from accounts import open_sessions, seeds
from accounts.models import User
from apitokens import credentials, principals, services
from apitokens.governance import sso
from apitokens.models import ApiToken, Owner
from apitokens.orders import Expiry, Grant, Order
from apitokens.setup import give_role
from audit.actors import Actor
from audit.models import ActorKind, AuditEvent
from config.demo import PERMISSIONS
from tenants.models import (
    Environment,
    IdentityProvider,
    IdentityProviderRole,
    Membership,
    Permission,
    Role,
    RolePermission,
    Tenant,
    Vendor,
    VendorMembership,
)
from tenants.queries import grantor_of_membership
from tests.factories import EnvironmentFactory, MembershipFactory, TenantFactory, VendorMembershipFactory

PASSWORD = "correct horse battery"
# What signing in, and an event of what was done or refused, leave behind.
TRACES = ("django_session", "accounts_user", "audit_auditevent", "audit_person")
FORM = "application/x-www-form-urlencoded"
GUARD = {"kind": "client_credentials", "roles": [], "permissions": ["tokens:introspect"], "name": "Guard"}
ROLES = ("viewer", "member", "admin", "owner")
HIDDEN = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)"')


@dataclass
class House:
    """One tenant with its four people, and short ways to do what they do over HTTP."""

    environment: Environment
    tenant: Tenant
    people: dict[str, Membership]

    def role(self, key: str) -> Role:
        return Role.objects.get(environment=self.environment, tenant=None, key=key)

    def browser(self, role: str) -> Client:
        """A browser in which that person is signed in."""
        return signed_in(self.people[role].user)

    def url(self, path: str = "") -> str:
        return f"/t/{self.tenant.slug}/tokens/{path}"

    def form(self, browser: Client, path: str = "new/") -> dict[str, str]:
        """The hidden fields of a form as rendered: its nonce and its CSRF token."""
        page = browser.get(self.url(path)).content.decode()
        return dict(re.findall(r'name="(nonce|csrfmiddlewaretoken)" value="([^"]+)"', page))

    def make(self, role: str, **asked: object):
        """The answer to the form *New token*, filled in by that person."""
        browser = self.browser(role)
        filled = {"name": "CI", "owner": "tenant", "kind": "access_token", **asked}
        return browser.post(self.url("new/"), {**self.form(browser), **filled})

    def api(self, role: str, method: str, path: str, body: object = None, **headers: str):
        """A call to the API with that person's portal session."""
        return _call_api(self.browser(role), method, path, body, headers)

    def issue(self, role: str, **asked: object) -> services.Issued:
        """A token made by that person through the service, for tests about what comes after."""
        membership = self.people[role]
        by = principals.Principal(
            actor=_actor(membership),
            environment=self.environment,
            tenant=self.tenant,
            membership=membership,
            proven_at=timezone.now(),
            permissions=grantor_of_membership(membership).permissions,
        )
        order = _order(asked, membership)
        return services.issue(by=by, tenant=self.tenant, order=order, at=timezone.now())

    def issue_for_environment(self, **asked: object) -> services.Issued:
        """An environment-owned token made by the system."""
        order = _order({"owner": Owner.ENVIRONMENT, "roles": ["backend"], **asked}, None)
        return services.issue(by=principals.system(self.environment), tenant=None, order=order, at=timezone.now())


@dataclass
class Office:
    """The vendor's own people, an owner, an admin and an auditor of all its environments, in the console."""

    vendor: Vendor
    people: dict[str, VendorMembership]

    def browser(self, role: str) -> Client:
        return signed_in(self.people[role].user)

    def url(self, environment: Environment, path: str = "") -> str:
        return f"/console/{environment.slug}/{path}"

    def page(self, role: str, environment: Environment, path: str = "", browser: Client | None = None):
        return (browser or self.browser(role)).get(self.url(environment, path))

    def hidden(self, browser: Client, environment: Environment, path: str = "") -> dict[str, str]:
        """The hidden fields of the page as rendered; where it has no form, what every form there would have."""
        page = browser.get(self.url(environment, path))
        if page.status_code != 200:
            page = browser.get(self.url(environment))
        found = {name: unescape(value) for name, value in HIDDEN.findall(page.content.decode())}
        return {"environment": environment.slug, **found}

    def post(self, role: str, environment: Environment, path: str, /, browser: Client | None = None, **fields: object):
        """The answer to the page's form, filled in by that person."""
        browser = browser or self.browser(role)
        return browser.post(self.url(environment, path), {**self.hidden(browser, environment, path), **fields})

    def api(
        self,
        role: str,
        method: str,
        path: str,
        body: object = None,
        *,
        environment: Environment | None = None,
        **headers: str,
    ):
        """A call to the API with that person's portal session; `environment` becomes `?environment=`."""
        if environment is not None:
            path += f"{'&' if '?' in path else '?'}environment={environment.slug}"
        return _call_api(self.browser(role), method, path, body, headers)


def removed_from_sso(house: House) -> Membership:
    """Of the house's identity provider, whose address leads nowhere, somebody who came by it and was removed."""
    now, issuer = timezone.now(), "https://127.0.0.1"
    provider = IdentityProvider.objects.create(
        environment=house.environment,
        tenant=house.tenant,
        issuer=issuer,
        voucher_id=sso.voucher_of(house.tenant, issuer),
        client_id="portal",
        sealed_secret=seeds.seal("secret"),
        secret_set_at=now,
    )
    viewer = house.role("viewer")
    IdentityProviderRole.objects.create(
        provider=provider,
        role=viewer,
        tenant=house.tenant,
        environment=house.environment,
        role_scope_id=viewer.scope_id,
    )
    user = User.objects.create(voucher_id=provider.voucher_id, voucher_user_id="left", name="Lea Left")
    return MembershipFactory(tenant=house.tenant, user=user, ended_at=now)


def signed_in(user: User) -> Client:
    """A browser that was at some page before, and has its CSRF cookie; it enforces CSRF, as real ones are made to."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    record_proof(client, user)
    client.cookies["csrftoken"] = uuid4().hex
    return client


def just_signed_in(user):
    """A browser that was at no page yet, and has no CSRF cookie."""
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(user)
    record_proof(browser, user)
    return browser


def record_proof(client: Client, user: User, *, age: float = 0) -> None:
    """As allauth records in the session that the person has shown who they are, so many seconds ago."""
    session = client.session
    request = SimpleNamespace(session=session)
    record_authentication(request, user, method="password")
    session[AUTHENTICATION_METHODS_SESSION_KEY][-1]["at"] -= age
    session.save()
    # And that this browser was noted just now: else its first request would write more than any other.
    open_sessions.looked(session.session_key, timezone.now())


def shown(response) -> dict[str, str]:
    """What a page that shows a secret shows, by `data-field`."""
    return dict(re.findall(r'data-field="(\w+)"[^>]*>([^<]+)<', response.content.decode()))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def basic(client_id: str, secret: str) -> dict[str, str]:
    return {"Authorization": f"Basic {b64encode(f'{client_id}:{secret}'.encode()).decode()}"}


def grant(client: Client, issued: services.Issued, **asked: str):
    """The token endpoint's answer to the client's credentials, as HTTP Basic."""
    return client.post(
        "/oauth2/token",
        data="&".join(f"{name}={value}" for name, value in {"grant_type": "client_credentials", **asked}.items()),
        content_type="application/x-www-form-urlencoded",
        headers=basic(issued.token.client_id, issued.plaintext),
    )


def jwt_of(client: Client, issued: services.Issued, **asked: str) -> str:
    """The JWT that the token endpoint grants to the client's credentials."""
    answer = grant(client, issued, **asked)
    assert answer.status_code == 200, answer.content
    return answer.json()["access_token"]


def claims_of(jwt: str) -> dict:
    """What the JWT claims, whoever signed it."""
    return pyjwt.decode(jwt, options={"verify_signature": False})


def wrong_secret(issued: services.Issued) -> str:
    """A secret of our form in that token's name, which it never had."""
    said = credentials.parse(issued.plaintext)
    return made_up(said.marker, said.token_id, prefix=said.prefix)


def made_up(marker: str, token_id: str = "0" * credentials.ID_LENGTH, *, prefix: str = "x_y") -> str:
    """A secret of our form that nobody was ever given, by default in the name of no token that exists."""
    return credentials.mint(prefix=prefix, marker=marker, token_id=token_id, peppers=settings.PEPPERS).plaintext


def ask_oauth(machine, endpoint, form, headers=None, *, content_type=FORM, query=""):
    """What that endpoint below `oauth2/` answers to the form, or to whatever is sent in its place."""
    data = form if isinstance(form, str | bytes) else urlencode(form)
    return machine.post(f"/oauth2/{endpoint}{query}", data=data, content_type=content_type, headers=headers)


def guarding(machine, issued):
    """Who introspects by that client, and how it asks."""
    return SimpleNamespace(
        issued=issued,
        token=issued.token,
        headers=basic(issued.token.client_id, issued.plaintext),
        ask=lambda token, **more: ask_oauth(
            machine, "introspect", {"token": token, **more}, basic(issued.token.client_id, issued.plaintext)
        ),
    )


def machine_post(machine, token, sent, path="tokens"):
    """A call to the API with that access token or JWT."""
    return machine.post(f"/api/v1/{path}", sent, content_type="application/json", headers=bearer(token))


def alive(token, *more):
    """What our own API says to each of these credentials."""
    return [Client().get("/api/v1/token/self", headers=bearer(text)).status_code for text in (token, *more)]


def post_as_ada(house, body, content_type="application/json"):
    """Ada asks for a token; a fault of ours is an answer here, not an exception, as it is for everybody else."""
    browser = house.browser("admin")
    browser.raise_request_exception = False
    house.form(browser)
    headers = {"X-CSRFToken": browser.cookies["csrftoken"].value}
    path = f"/api/v1/tokens?tenant={house.tenant.id}"
    data = body if isinstance(body, str | bytes) else json.dumps(body)
    return browser.generic("POST", path, data=data, content_type=content_type, headers=headers)


def send(visitor, path, **fields):
    """The answer to the form of that page, with its CSRF token."""
    page = visitor.get(path).content.decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)[1]
    return visitor.post(path, {"csrfmiddlewaretoken": token, **fields})


def make_environment(**fields: object) -> Environment:
    environment = EnvironmentFactory(**fields)
    permissions = Permission.objects.bulk_create(Permission(environment=environment, key=key) for key in PERMISSIONS)
    RolePermission.objects.bulk_create(
        RolePermission(role=role, permission=permission, environment=environment)
        for role in environment.roles.all()
        for permission in permissions
        if role.key in PERMISSIONS[permission.key][1]
    )
    return environment


def make_house(environment: Environment, name: str) -> House:
    return make_people(TenantFactory(environment=environment, name=name, slug=f"{name.lower()}-{environment.slug}"))


def make_people(tenant: Tenant) -> House:
    people, roles = {}, {role.key: role for role in tenant.environment.roles.all()}
    for key in ROLES:
        people[key] = MembershipFactory(tenant=tenant)
        give_role(people[key], roles[key])
    return House(environment=tenant.environment, tenant=tenant, people=people)


def make_office(vendor: Vendor) -> Office:
    people = {role: VendorMembershipFactory(vendor=vendor, role=role) for role in ("owner", "admin", "auditor")}
    return Office(vendor=vendor, people=people)


def tokens() -> list[ApiToken]:
    return list(ApiToken.objects.order_by("created_at"))


def everything_stored(*, but: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """Every row of every table, as text: for tests about what must not have changed, or must be nowhere."""
    stored = {}
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            if table not in but:
                cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")  # noqa: S608 -- the database's own
                stored[table] = sorted(repr(row) for row in cursor.fetchall())
    return stored


def key_state(state: str) -> dict[str, object]:
    """The columns of a signing key that is in that state since now."""
    now = timezone.now()
    return {
        "state": state,
        "retiring_from": now if state == "retiring" else None,
        "ended_at": now if state in {"retired", "compromised"} else None,
    }


def events(**about):
    """What the record says of each: what was done, how it ended and why."""
    return list(AuditEvent.objects.filter(**about).order_by("at", "id").values_list("verb", "outcome", "reason"))


def event(verb):
    """The latest of that verb."""
    return AuditEvent.objects.filter(verb=verb).latest("at")


def iso(moment):
    """A moment as the API writes it."""
    return moment.isoformat().replace("+00:00", "Z") if moment else None


def pem(key: PrivateKeyTypes, form=serialization.PublicFormat.SubjectPublicKeyInfo) -> str:
    """The public half of the pair."""
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def accept(browser, link, **fields):
    """What the page behind the link sends, as whoever is in the browser."""
    if "csrftoken" not in browser.cookies:
        browser.get("/accounts/login/" if browser.get(link).status_code != 200 else link)
    return browser.post(link, {"csrfmiddlewaretoken": browser.cookies["csrftoken"].value, **fields})


def join(link, **fields):
    """What somebody new sends, who has no account yet."""
    return accept(Client(enforce_csrf_checks=True), link, **{"name": "Nia New", "password": PASSWORD, **fields})


def _call_api(browser: Client, method: str, path: str, body: object, headers: dict[str, str]):
    return browser.generic(
        method,
        f"/api/v1/{path}",
        data="" if body is None else json.dumps(body),
        content_type="application/json",
        headers={"X-CSRFToken": browser.cookies["csrftoken"].value, **headers},
    )


def _actor(membership: Membership) -> Actor:
    return Actor(kind=ActorKind.USER, id=membership.user_id, label=str(membership.user))


def _order(asked: dict[str, object], membership: Membership | None) -> Order:
    fields = {"owner": "tenant", "kind": "access_token", "name": "CI", **asked}
    grant_fields = {name: tuple(fields.pop(name)) for name in ("roles", "permissions", "without") if name in fields}
    expiry = Expiry(at=fields.pop("expires_at")) if "expires_at" in fields else Expiry()
    if fields["owner"] == "tenant" and not grant_fields:
        grant_fields = {"roles": ("viewer",)}
    if fields["owner"] == "user":
        fields["membership"] = membership
    return Order(grant=Grant(**grant_fields), expiry=expiry, **fields)
