"""Requests that no honest program sends: answered in words, never with a 5xx."""

import pytest

from tests.cast import basic, bearer

DEEP = "[" * 60_000


@pytest.fixture
def backend(acme):
    return bearer(acme.issue_for_environment().plaintext)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        pytest.param("/api/v1/tokens?tenant=%00", 404, id="nul-in-tenant"),
        pytest.param("/api/v1/tokens?tenant=a&tenant=b", 404, id="two-tenants"),
        pytest.param("/api/v1/tokens/%00", 404, id="nul-in-token-id"),
        pytest.param("/api/v1/tokens/" + "x" * 3000, 404, id="endless-token-id"),
        pytest.param("/api/v1/tokens?tenant={tenant}&cursor=cD1mb28%3D", 404, id="made-up-cursor"),
        pytest.param("/api/v1/tokens?tenant={tenant}&page_size=-1", 200, id="negative-page-size"),
        pytest.param("/api/v1/tokens?tenant={tenant}&owner=%00", 400, id="unknown-owner"),
    ],
)
def test_an_odd_address_of_the_api_is_answered(acme, machine, backend, path, status):
    assert machine.get(path.format(tenant=acme.tenant.id), headers=backend).status_code == status


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(DEEP, "parse_error", id="nested-deeply"),
        pytest.param("{", "parse_error", id="cut-off"),
        pytest.param("[]", "invalid", id="a-list"),
        pytest.param(b"\xff\xfe", "parse_error", id="not-utf-8"),
        pytest.param('{"name": "x", "kind": "access_token", "tenant": "\\u0000"}', "invalid", id="nul"),
        pytest.param('{"name": "x", "kind": "access_token", "tenant": "\\ud800"}', "invalid", id="half-a-character"),
        pytest.param('{"name": "x", "kind": "access_token", "expires_in": 1e400}', "invalid", id="endless-number"),
        pytest.param(
            '{"name": "x", "kind": "access_token", "roles": ["viewer"], "tenant": "%(tenant)s",'
            ' "expires_at": "9999-12-31T23:59:59-23:59"}',
            "invalid",
            id="beyond-the-calendar",
        ),
    ],
)
def test_an_odd_body_is_refused_by_name_and_makes_nothing(acme, machine, backend, body, code):
    before = acme.tenant.api_tokens.count()
    body = body % {"tenant": acme.tenant.id} if "%(tenant)s" in str(body) else body
    response = machine.post("/api/v1/tokens", data=body, content_type="application/json", headers=backend)
    assert (response.status_code, response.json()["code"]) == (400, code)
    assert acme.tenant.api_tokens.count() == before


@pytest.mark.parametrize(
    "header",
    [
        pytest.param("Bearer", id="no-value"),
        pytest.param("Bearer é", id="not-ascii"),
        pytest.param("Bearer a.b.c", id="shape-of-a-jwt"),
        pytest.param("Bearer " + "a" * 20_000 + ".b.c", id="endless-jwt"),
        pytest.param("Bearer eyJraWQiOiJcdTAwMDAifQ.e30.x", id="nul-in-kid"),
        pytest.param("Bearer eyJraWQiOjF9.e30.x", id="number-for-kid"),
        pytest.param("Basic é", id="basic-not-base64"),
        pytest.param("Basic " + "=" * 5, id="basic-padding-only"),
        pytest.param("", id="empty"),
    ],
)
def test_an_odd_credential_is_401(machine, db, header):
    response = machine.get("/api/v1/token/self", headers={"Authorization": header})
    assert (response.status_code, response.json()["code"]) == (401, "invalid_token")
    assert "WWW-Authenticate" in response


def test_a_nul_in_a_client_id_is_an_unknown_client(acme, machine):
    secret = acme.issue("owner", kind="client_credentials").plaintext
    response = machine.post(
        "/oauth2/token",
        data="grant_type=client_credentials",
        content_type="application/x-www-form-urlencoded",
        headers=basic("\0", secret),
    )
    assert (response.status_code, response.json()["error"]) == (401, "invalid_client")


@pytest.mark.parametrize("path", ["tokens/?cursor=cD1mb28%3D", "audit/?cursor=cD1mb28%3D"])
def test_a_made_up_cursor_is_not_a_page(acme, path):
    assert acme.browser("owner").get(f"/t/{acme.tenant.slug}/{path}").status_code == 404
