"""Whole answers, as several test modules expect them."""

import re
from datetime import UTC, datetime
from html import unescape

from apitokens import setup

VIEWER = " ".join(sorted([*setup.VIEWER, "reports:read"]))
TWO_WAYS = "Credentials in two ways at once: send them in one."
INACTIVE = b'{"active": false}'
CHALLENGES = 'Basic realm="token endpoint", charset="UTF-8", Bearer realm="oauth2"'
SCOPE = 'Bearer realm="oauth2", error="insufficient_scope", scope="tokens:introspect"'
UNKNOWN_TOKEN = "The token is unknown, expired or malformed."
# When the clocks of the tests that use `version` and `body` stand.
AT = datetime(2031, 5, 1, 12, 0, 0, tzinfo=UTC)


def refused(answer, status, error, description, challenge=None):
    """By RFC 6749 section 5.2, and never kept by anybody on the way."""
    assert (answer.status_code, answer.json()) == (status, {"error": error, "error_description": description})
    kept_by_nobody(answer)
    assert answer.headers.get("WWW-Authenticate") == challenge


def granted(answer, scope=VIEWER):
    """The JWT of an answer by RFC 6749 section 5.1."""
    body = answer.json()
    access = body.pop("access_token")
    assert access.count(".") == 2
    assert (answer.status_code, body) == (200, {"token_type": "Bearer", "expires_in": 3600, "scope": scope})
    kept_by_nobody(answer)
    assert "WWW-Authenticate" not in answer.headers
    return access


def inactive(answer):
    """The same bytes, whatever the reason."""
    assert (answer.status_code, answer.content) == (200, INACTIVE)
    kept_by_nobody(answer)


def kept_by_nobody(answer):
    assert answer.headers["Content-Type"] == "application/json"
    assert (answer.headers["Cache-Control"], answer.headers["Pragma"]) == ("no-store", "no-cache")


def unauthorized(answer, detail, scheme="Bearer", **members):
    """Our API refuses the credential for this reason."""
    assert (answer.status_code, answer.json()) == (
        401,
        {
            "type": "urn:tallystick:problem:invalid_token",
            "title": "Unauthorized",
            "status": 401,
            "detail": detail,
            "code": "invalid_token",
            **members,
        },
    )
    assert answer.headers["Cache-Control"] == "no-store"
    challenges = {
        "Bearer": f'Bearer realm="api", error="invalid_token", error_description="{detail}"',
        "Basic": 'Basic realm="api", charset="UTF-8"',
    }
    assert answer.headers["WWW-Authenticate"] == challenges[scheme]


def problem(status, code, detail, **members):
    """The body of a refusal by our API (RFC 9457)."""
    titles = {400: "Bad Request", 403: "Forbidden", 409: "Conflict", 413: "Request Entity Too Large"}
    kind = f"urn:tallystick:problem:{code}"
    return {"type": kind, "title": titles[status], "status": status, "detail": detail, "code": code, **members}


def version(last_four, **changes):
    """One secret of a token, as the API shows it, made at AT."""
    return {
        "last_four": last_four,
        "kid": None,
        "algorithm": None,
        "created_at": "2031-05-01T12:00:00Z",
        "expires_at": None,
        "last_used_at": None,
        "last_used_ip": None,
        **changes,
    }


def body(house, **changes):
    """A token of the tenant's, as the API shows it, made at AT by its admin."""
    return {
        "client_id": None,
        "name": "CI",
        "description": "",
        "owner": "tenant",
        "kind": "access_token",
        "environment": house.environment.slug,
        "tenant": str(house.tenant.id),
        "user": None,
        "roles": ["viewer"],
        "granted": VIEWER.split(),
        "permissions": VIEWER.split(),
        "state": "usable",
        "secrets": [version(changes["last_four"])],
        "rotation": None,
        "ip_allowlist": [],
        "audiences": [],
        "not_before": None,
        "expires_at": "2031-07-30T12:00:00Z",
        "disabled_at": None,
        "created_at": "2031-05-01T12:00:00Z",
        "last_used_at": None,
        "last_used_ip": None,
        **changes,
    }


def text_of(answer):
    """What a page says, without its marks."""
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode())))
