"""The OpenAPI document tells the truth: every operation, every refusal, and a page that needs no other host."""

import pytest

OPERATIONS = {
    ("/api/v1/token/self", "get"),
    ("/api/v1/tokens", "get"),
    ("/api/v1/tokens", "post"),
    ("/api/v1/tokens/{token_id}", "get"),
    ("/api/v1/tokens/{token_id}", "patch"),
    ("/api/v1/tokens/{token_id}", "delete"),
    ("/api/v1/tokens/{token_id}/disable", "post"),
    ("/api/v1/tokens/{token_id}/enable", "post"),
    ("/api/v1/tokens/{token_id}/secret", "post"),
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


def test_the_browsable_page_is_self_hosted(machine, db):
    page = machine.get("/api/docs/").content.decode()
    assert "/static/drf_spectacular_sidecar/swagger-ui" in page
    assert "https://" not in page
