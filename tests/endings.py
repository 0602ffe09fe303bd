"""Run as a program where a server runs: makes a client for each row of the table that says "dead", and prints them.

Each has a tenant of its own; what ends with a whole environment has one of these too. JSON, a row by its name.
"""

import json
import sys

ROWS = [
    "creator suspended", "member leaves", "member removed", "vendor member leaves", "user erased", "token disabled",
    "token deleted", "JWTs ended", "rotated as compromised", "tenant suspended", "tenant deleted",
    "bound to a suspended tenant", "environment suspended", "environment deleted", "type disabled",
    "signing key compromised",
]  # fmt: skip
WITH_ENVIRONMENT = ROWS[-4:]
PERSONAL = {"creator suspended", "member leaves", "member removed", "user erased"}


def main() -> None:
    import django

    django.setup()
    json.dump(made(), sys.stdout)


def made():
    from tests.cast import GUARD, make_environment, make_house, make_office
    from tests.factories import VendorFactory

    vendor = VendorFactory(slug="endings")
    office = make_office(vendor)
    shared = make_environment(vendor=vendor, name="Shared", slug="endings", token_prefix="endings")
    places = {"shared": shared} | {
        name: make_environment(
            vendor=vendor, name=name.capitalize(), slug=f"endings-{number}", token_prefix=f"endings{number}"
        )
        for number, name in enumerate(WITH_ENVIRONMENT)
    }
    houses = {name: make_house(places.get(name, shared), f"House{number}") for number, name in enumerate(ROWS)}
    guards = {environment.pk: _client(house.issue_for_environment(**GUARD)) for house in houses.values()
              for environment in [house.environment] if not _has_guard(environment)}  # fmt: skip
    return {
        name: {
            **_issued(name, house, office),
            "guard": guards[house.environment.pk],
            "environment": house.environment.slug,
            "environment_name": house.environment.name,
            "issuer": house.environment.issuer,
            "tenant": str(house.tenant.id),
            "tenant_slug": house.tenant.slug,
            "tenant_name": house.tenant.name,
            "member": str(house.people["member"].id),
            "user": str(house.people["member"].user_id),
            "sessions": {
                "member": _session(house.browser("member")),
                "owner": _session(house.browser("owner")),
                "vendor": _session(office.browser("owner")),
            },
        }
        for name, house in houses.items()
    }


def _issued(name, house, office):
    asked = {"kind": "client_credentials", "name": name, "roles": ["member"]}
    if name == "vendor member leaves":
        picked = {**asked, "roles": [], "permissions": ["reports:read"]}
        return _of_the_vendors(house.issue("member", owner="user", **picked).token, office)
    if name == "bound to a suspended tenant":
        issued = house.issue_for_environment(**{**asked, "roles": ["backend"]})
        return {**_client(issued), "asked": {"tenant": str(house.tenant.id)}}
    issued = house.issue("member", **({"owner": "user"} if name in PERSONAL else {}), **asked)
    return {**_client(issued), "asked": {}}


def _of_the_vendors(token, office):
    """A copy of a personal client for somebody of the vendor, who gets none by any door yet."""
    from django.conf import settings

    from apitokens import credentials
    from apitokens.models import ApiToken, Secret
    from tests.factories import VendorMembershipFactory, insert_copy

    member = VendorMembershipFactory(vendor=office.vendor, role="admin")
    new = credentials.new_token_id()
    vendors = {"tenant": None, "membership": None, "vendor": office.vendor.id, "vendor_membership": member.id}
    insert_copy(token, {**vendors, "token_id": new, "client_id": f"vendors_{new}"})
    copy = ApiToken.objects.get(token_id=new)
    minted = credentials.mint(prefix=copy.environment.token_prefix, marker="cs", token_id=new, peppers=settings.PEPPERS)
    Secret.objects.create(
        token=copy,
        environment=copy.environment,
        scope_id=copy.scope_id,
        kind=copy.kind,
        slot=1,
        digest=minted.digest,
        pepper_id=minted.pepper_id,
        last_four=minted.last_four,
    )
    client = {"client_id": copy.client_id, "secret": minted.plaintext, "token_id": new}
    return {**client, "asked": {}, "vendor_member": str(member.id)}


def _client(issued):
    return {"client_id": issued.token.client_id, "secret": issued.plaintext, "token_id": issued.token.token_id}


def _has_guard(environment):
    return environment.api_tokens.filter(name="Guard").exists()


def _session(browser):
    return browser.cookies["sessionid"].value


if __name__ == "__main__":
    main()
