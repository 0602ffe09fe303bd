"""What makes no sense is answered by name and in words, by the API and by the page, and makes no token."""

import html
import json
from urllib.parse import quote

import pytest

from apitokens.models import DAY, ApiToken, TokenType
from apitokens.setup import hold
from audit.models import AuditEvent, Outcome
from tests.answers import problem
from tests.cast import bearer, post_as_ada
from tests.factories import RoleFactory

GOOD = {"name": "CI", "kind": "access_token", "roles": ["viewer"]}
INVISIBLE = "A name can't have control or invisible characters or line breaks."
PAST = "This moment has passed: choose one in the future."
NULLS = "Null characters are not allowed."
# Decided by the shape of the body: the field and what is said about it.
SHAPE = {
    "a name of 101 characters": ({"name": "x" * 101}, "name", "Ensure this field has no more than 100 characters."),
    "a blank name": ({"name": "   "}, "name", "This field may not be blank."),
    "no name": ({"name": None}, "name", "This field may not be null."),
    "a name that is an object": ({"name": {}}, "name", "Not a valid string."),
    "a name that is a boolean": ({"name": True}, "name", "Not a valid string."),
    "a null byte in the name": ({"name": "a\0b"}, "name", NULLS),
    "a null byte in the description": ({"description": "a\0b"}, "description", NULLS),
    "a null byte in a role": ({"roles": ["viewer\0"]}, "roles.0", NULLS),
    "a null byte in the tenant": ({"tenant": "x\0"}, "tenant", NULLS),
    "half a surrogate pair in the name": (
        {"name": "\ud800"}, "name", "Surrogate characters are not allowed: U+D800.",
    ),
    "a description of 1001 characters": (
        {"description": "x" * 1001}, "description", "Ensure this field has no more than 1000 characters.",
    ),
    "roles that are no list": ({"roles": "viewer"}, "roles", 'Expected a list of items but got type "str".'),
    "a role that is an object": ({"roles": ["viewer", {}]}, "roles.1", "Not a valid string."),
    "201 roles": ({"roles": ["viewer"] * 201}, "roles", "Ensure this field has no more than 200 elements."),
    "an unknown kind": ({"kind": "password"}, "kind", '"password" is not a valid choice.'),
    "an unknown owner": ({"owner": "robot"}, "owner", '"robot" is not a valid choice.'),
    "a user that is no id": ({"user": "me"}, "user", "Must be a valid UUID."),
    "an unknown field": ({"rolez": ["viewer"]}, "rolez", "Unknown field."),
    "a lifetime of nothing": ({"expires_in": 0}, "expires_in", "Ensure this value is greater than or equal to 1."),
    "a negative lifetime": ({"expires_in": -60}, "expires_in", "Ensure this value is greater than or equal to 1."),
    "a huge lifetime": (
        {"expires_in": 10**30}, "expires_in", "Ensure this value is less than or equal to 3162240000.",
    ),
    "a fractional lifetime": ({"expires_in": 1.5}, "expires_in", "A valid integer is required."),
    "an expiry beyond the calendar": (
        {"expires_at": "9999-12-31T23:59:59-23:00"}, "expires_at", "Datetime value out of range.",
    ),
    "51 networks": ({"ip_allowlist": ["10.0.0.0/8"] * 51}, "ip_allowlist",
                    "Ensure this field has no more than 50 elements."),
}  # fmt: skip
# Decided by what it means.
SENSE = {
    "an unknown role": ({"roles": ["viewer", "nobody"]}, "roles", "Unknown role: nobody."),
    "another tenant's own role": ({"roles": ["own:robots"]}, "roles", "Unknown role: own:robots."),
    "roles and permissions": (
        {"permissions": ["reports:read"]}, "permissions", "Give either roles or permissions, not both.",
    ),
    "an unknown permission": (
        {"roles": [], "permissions": ["cakes:bake"]}, "permissions", "Unknown permission: cakes:bake.",
    ),
    "a permission for other owners": (
        {"roles": [], "permissions": ["environment-tokens:read"]},
        "permissions",
        "Not for tokens of this owner: environment-tokens:read.",
    ),
    "no role": ({"roles": []}, "roles", "Choose at least one role: a token without one could do nothing."),
    "an expiry in the past": ({"expires_at": "2001-01-01T00:00:00Z"}, "expires_at", PAST),
    "an expiry said twice": (
        {"expires_at": "2999-01-01T00:00:00Z", "expires_in": 60},
        "expires_at",
        "Give either expires_at or expires_in, not both.",
    ),
    "an expiry beyond the longest": (
        {"expires_in": 30 * DAY + 60}, "expires_in", "The longest lifetime here is 30 days: choose an earlier moment.",
    ),
    "never, where all expire": ({"expires_in": None}, "expires_in", "It must expire, at the latest after 30 days."),
    "a control character in the name": ({"name": "a\x07b"}, "name", INVISIBLE),
    "an invisible character in the name": ({"name": "a\u200bb"}, "name", INVISIBLE),
    "a line break in the name": ({"name": "a\nb"}, "name", INVISIBLE),
    "a control character in the description": (
        {"description": "a\x07b"}, "description", "A description can't have control characters.",
    ),
    "a network with host bits": (
        {"ip_allowlist": ["10.0.0.1/8"]},
        "ip_allowlist",
        "'10.0.0.1/8' is not an address or a network like 203.0.113.0/24.",
    ),
}  # fmt: skip


@pytest.fixture
def limited(world):
    """No token of Acme's lives longer than 30 days; Globex has a role of its own."""
    limits = {"default_lifetime": 7 * DAY, "longest_lifetime": 30 * DAY, "may_never_expire": False}
    TokenType.objects.filter(environment=world.production).update(**limits)
    role = RoleFactory(environment=world.production, tenant=world.globex.tenant, key="own:robots", name="Robots")
    hold(role, ["reports:read"])
    return world.acme


@pytest.mark.parametrize("name", SHAPE)
def test_the_api_says_which_field_has_the_wrong_shape(limited, name):
    changes, field, message = SHAPE[name]
    answer = post_as_ada(limited, {**GOOD, **changes})
    expected = problem(400, "invalid", f"{field}: {message}", errors={field: [message]})
    assert (answer.status_code, answer.json()) == (400, expected)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert not ApiToken.objects.exists()


@pytest.mark.parametrize("name", SENSE)
def test_the_api_says_which_field_makes_no_sense(limited, name):
    changes, field, message = SENSE[name]
    answer = post_as_ada(limited, {**GOOD, **changes})
    assert (answer.status_code, answer.json()) == (400, problem(400, "invalid", message, errors={field: [message]}))
    assert not ApiToken.objects.exists()
    assert not AuditEvent.objects.filter(outcome=Outcome.REFUSED).exists()  # a mistake is no denial


def test_with_none_of_this_the_token_is_made(limited):
    assert post_as_ada(limited, GOOD).status_code == 201
    longest = {"name": "y" * 100, "description": "x" * 1000, "expires_in": 30 * DAY, "ip_allowlist": ["10.0.0.0/8"]}
    assert post_as_ada(limited, {**GOOD, **longest}).status_code == 201
    assert ApiToken.objects.count() == 2


UNREADABLE = {
    "no JSON": "{name",
    "not a number": json.dumps({**GOOD, "expires_in": float("nan")}),
    "a number of 5000 digits": json.dumps(GOOD)[:-1] + ', "expires_in": ' + "9" * 5000 + "}",
    "not UTF-8": b'{"name": "\xff"}',
    "nested without end": "[" * 20_000,
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_body_that_is_no_json_is_400(limited, name):
    answer = post_as_ada(limited, UNREADABLE[name])
    assert answer.status_code == 400
    detail = answer.json()["detail"]
    assert answer.json() == problem(400, "parse_error", detail)
    assert not ApiToken.objects.exists()


@pytest.mark.parametrize(("body", "kind"), [("[]", "list"), ('"x"', "str"), ("1", "int")])
def test_a_body_that_is_no_object_is_400(limited, body, kind):
    message = f"Invalid data. Expected a dictionary, but got {kind}."
    expected = problem(400, "invalid", f"non_field_errors: {message}", errors={"non_field_errors": [message]})
    assert post_as_ada(limited, body).json() == expected


@pytest.mark.parametrize("changes", [{"kind": "\ud800"}, {"owner": "\ud800"}, {"\ud800": 1}])
def test_half_a_surrogate_pair_in_what_the_answer_repeats_is_400(limited, changes):
    answer = post_as_ada(limited, {**GOOD, **changes})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert not ApiToken.objects.exists()


def test_a_body_over_64_kib_is_not_read(limited):
    body = json.dumps(GOOD)
    assert post_as_ada(limited, body + " " * (64 * 1024 - len(body))).status_code == 201
    answer = post_as_ada(limited, body + " " * (64 * 1024 - len(body) + 1))
    expected = problem(413, "too_large", "The body is over 64 KiB: nothing was read.")
    assert (answer.status_code, answer.json()) == (413, expected)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_another_content_type_is_415(limited, content_type):
    answer = post_as_ada(limited, json.dumps(GOOD), content_type=content_type)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    assert not ApiToken.objects.exists()


BAD_CURSORS = {"no base64": "zzz", "no moment": "cD1ub3RhZGF0ZQ==", "a null byte": "cD0lMDA=", "no offset": "bz14"}


@pytest.mark.parametrize("name", BAD_CURSORS)
@pytest.mark.parametrize("path", ["/t/{0}/tokens/?", "/t/{0}/audit/?", "/api/v1/tokens?tenant={1}&"])
def test_a_cursor_that_is_none_of_ours_is_404(acme, path, name):
    browser = acme.browser("admin")
    browser.raise_request_exception = False
    path = path.format(acme.tenant.slug, acme.tenant.id)
    assert browser.get(path).status_code == 200
    answer = browser.get(f"{path}cursor={quote(BAD_CURSORS[name])}")
    assert answer.status_code == 404


@pytest.mark.parametrize(
    ("path", "status"),
    [("/api/v1/tokens?tenant=%00", 404), ("/api/v1/tokens?tenant={1}&owner=%00", 400), ("/api/v1/tokens/%00", 404),
     ("/api/v1/tokens/%00?tenant={1}", 404), ("/t/{0}/tokens/%00/", 404)],
)  # fmt: skip
def test_a_null_byte_in_an_address_is_no_fault_of_ours(acme, path, status):
    browser = acme.browser("admin")
    browser.raise_request_exception = False
    assert browser.get(path.format(acme.tenant.slug, acme.tenant.id)).status_code == status
    token = acme.issue("admin", roles=["admin"]).plaintext
    if "/api/" in path:
        answer = browser.get(path.format(acme.tenant.slug, acme.tenant.id), headers=bearer(token))
        assert answer.status_code == status


ON_THE_PAGE = {
    "a name of 101 characters": ({"name": "x" * 101}, "at most 100 characters"),
    "a blank name": ({"name": "  "}, "This field is required."),
    "a null byte in the name": ({"name": "a\0b"}, NULLS),
    "an invisible character in the name": ({"name": "a\u200bb"}, INVISIBLE),
    "a control character in the description": ({"description": "a\x07b"}, "can't have control characters"),
    "an unknown role": ({"roles": ["nobody"]}, "Unknown role: nobody."),
    "another tenant's own role": ({"roles": ["own:robots"]}, "Unknown role: own:robots."),
    "no role": ({"roles": []}, "Choose at least one role"),
    "an unknown kind": ({"kind": "password"}, "Kind is one of"),
    "an unknown owner": ({"owner": "robot"}, "Owner is one of"),
    "an expiry in the past": ({"expires_at": "2001-01-01T00:00"}, PAST),
    "an expiry said twice": ({"expires_at": "2999-01-01T00:00", "expires_in": "60"}, "not both"),
    "an expiry beyond the longest": ({"expires_in": str(31 * DAY)}, "The longest lifetime here is 30 days"),
    "never, where all expire": ({"expires_in": "never"}, "It must expire"),
    "a lifetime that is no number": ({"expires_in": "soon"}, "Choose one of the offers"),
    "a huge lifetime": ({"expires_in": "9" * 400}, "too far away"),
    "a lifetime of 5000 digits": ({"expires_in": "9" * 5000}, "too far away"),
    "a network that is none": ({"ip_allowlist": "office"}, "is not an address or a network"),
}


@pytest.mark.parametrize("name", ON_THE_PAGE)
def test_the_page_says_it_keeps_what_was_typed_and_makes_nothing(limited, name):
    changes, message = ON_THE_PAGE[name]
    typed = {"description": "Typed <b>text</b>", "roles": ["viewer"], **changes}
    answer = limited.make("admin", **typed)
    page = html.unescape(answer.content.decode())
    assert answer.status_code == 422
    assert message in page
    assert typed["description"] in page
    assert not ApiToken.objects.exists()
    mended = {field: {**GOOD, "owner": "tenant"}.get(field, "") for field in changes}
    assert limited.make("admin", **{**typed, **mended}).status_code == 200
