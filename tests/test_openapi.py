"""The OpenAPI document tells the truth: every operation, every refusal, and a page that needs no other host."""

import gzip
import re

import pytest

OPERATIONS = {
    ("/api/v1/tenants/{tenant_id}/sso", "get"),
    ("/api/v1/tenants/{tenant_id}/sso", "put"),
    ("/api/v1/tenants/{tenant_id}/sso", "delete"),
    ("/api/v1/tenants/{tenant_id}/sso/members/{removed_id}/readmit", "post"),
    ("/api/v1/token/self", "get"),
    ("/api/v1/tokens", "get"),
    ("/api/v1/tokens", "post"),
    ("/api/v1/tokens/{token_id}", "get"),
    ("/api/v1/tokens/{token_id}", "patch"),
    ("/api/v1/tokens/{token_id}", "delete"),
    ("/api/v1/tokens/{token_id}/disable", "post"),
    ("/api/v1/tokens/{token_id}/enable", "post"),
    ("/api/v1/tokens/{token_id}/explain", "get"),
    ("/api/v1/roles", "get"),
    ("/api/v1/roles", "post"),
    ("/api/v1/roles", "patch"),
    ("/api/v1/roles/{role_id}", "get"),
    ("/api/v1/roles/{role_id}", "patch"),
    ("/api/v1/roles/{role_id}", "delete"),
    ("/api/v1/permissions", "get"),
    ("/api/v1/permissions", "post"),
    ("/api/v1/permissions/{permission_id}", "get"),
    ("/api/v1/permissions/{permission_id}", "patch"),
    ("/api/v1/permissions/{permission_id}", "delete"),
    ("/api/v1/tokens/{token_id}/rotate", "post"),
    ("/api/v1/tokens/{token_id}/rotate/complete", "post"),
    ("/api/v1/tokens/{token_id}/rotate/cancel", "post"),
    ("/api/v1/token/self/rotate", "post"),
    ("/api/v1/token/self/rotate/complete", "post"),
    ("/api/v1/token/self/rotate/cancel", "post"),
    ("/api/v1/tokens/disable-all", "post"),
    ("/api/v1/tokens/{token_id}/end-jwts", "post"),
    ("/api/v1/token-types", "get"),
    ("/api/v1/token-types/{owner}/{kind}", "get"),
    ("/api/v1/token-types/{owner}/{kind}", "patch"),
    ("/api/v1/members", "get"),
    ("/api/v1/members/{member_id}", "get"),
    ("/api/v1/members/{member_id}", "patch"),
    ("/api/v1/members/{member_id}", "delete"),
    ("/api/v1/members/{member_id}/suspend", "post"),
    ("/api/v1/members/{member_id}/reinstate", "post"),
    ("/api/v1/members/{member_id}/inventory", "get"),
    ("/api/v1/invitations", "get"),
    ("/api/v1/invitations", "post"),
    ("/api/v1/invitations/{invitation_id}", "delete"),
    ("/api/v1/vendor-members", "get"),
    ("/api/v1/vendor-members/{member_id}", "get"),
    ("/api/v1/vendor-members/{member_id}", "patch"),
    ("/api/v1/vendor-members/{member_id}", "delete"),
    ("/api/v1/vendor-members/{member_id}/suspend", "post"),
    ("/api/v1/vendor-members/{member_id}/reinstate", "post"),
    ("/api/v1/vendor-invitations", "get"),
    ("/api/v1/vendor-invitations", "post"),
    ("/api/v1/vendor-invitations/{invitation_id}", "delete"),
    ("/api/v1/events", "get"),
    ("/api/v1/usage", "get"),
    ("/api/v1/environments", "get"),
    ("/api/v1/environments", "post"),
    ("/api/v1/environments/{slug}", "get"),
    ("/api/v1/environments/{slug}", "patch"),
    ("/api/v1/environments/{slug}", "delete"),
    ("/api/v1/environments/{slug}/brand", "get"),
    ("/api/v1/environments/{slug}/brand", "patch"),
    ("/api/v1/environments/{slug}/suspend", "post"),
    ("/api/v1/environments/{slug}/reinstate", "post"),
    ("/api/v1/environments/{slug}/restore", "post"),
    ("/api/v1/environments/{slug}/copy", "post"),
    ("/api/v1/portal-sessions", "get"),
    ("/api/v1/portal-sessions", "post"),
    ("/api/v1/portal-sessions", "delete"),
    ("/api/v1/portal-sessions/{session_id}", "delete"),
    ("/api/v1/signing-keys", "get"),
    ("/api/v1/signing-keys", "post"),
    ("/api/v1/signing-keys/{kid}/compromised", "post"),
    ("/api/v1/tenants", "get"),
    ("/api/v1/tenants", "post"),
    ("/api/v1/tenants/{tenant_id}", "get"),
    ("/api/v1/tenants/{tenant_id}", "patch"),
    ("/api/v1/tenants/{tenant_id}", "delete"),
    ("/api/v1/tenants/{tenant_id}/suspend", "post"),
    ("/api/v1/tenants/{tenant_id}/reinstate", "post"),
    ("/api/v1/tenants/{tenant_id}/restore", "post"),
}


@pytest.fixture
def document(machine, db):
    response = machine.get("/api/schema/", headers={"Accept": "application/vnd.oai.openapi+json"})
    assert response.status_code == 200
    return response.json()


def test_it_is_openapi_3_1_and_has_every_operation(document):
    assert document["openapi"].startswith("3.1")
    found = {(path, method) for path, item in document["paths"].items() for method in item}
    assert found == OPERATIONS


@pytest.mark.parametrize(("path", "method"), sorted(OPERATIONS))
def test_every_operation_documents_its_refusals_as_problems(document, path, method):
    responses = document["paths"][path][method]["responses"]
    expected = {"400", "401", "403", "404", "405", "406", "503"}
    assert expected <= set(responses)
    if method != "get":
        assert "409" in responses
    for status in expected:
        assert list(responses[status]["content"]) == ["application/problem+json"]


def test_the_page_for_people_has_every_operation_and_what_it_speaks_of(document, machine):
    answer = machine.get("/api/docs/")
    page = answer.content.decode()
    names = {said["operationId"] for item in document["paths"].values() for said in item.values()}
    ids = set(re.findall(r'<div class="stack-small" id="(\w+)"', page))
    assert ids == names | set(document["components"]["schemas"])
    assert set(re.findall(r'href="#(\w+)"', page)) - {"main", "schemas"} <= ids
    assert re.search(r"<code>expires_in</code> <span>integer or null \(1 to \d+\)\s*</span></dt>", page)
    assert "unsafe" not in answer["Content-Security-Policy"]
    assert len(gzip.compress(answer.content)) < 40_000
