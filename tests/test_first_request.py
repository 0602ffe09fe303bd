"""R9: issuing a JWT and checking a token cost two queries at most and write nothing, from the first request on.

Counted in processes that have answered nothing before, so that no cache which an earlier request filled can help.
"""

import json
import re
import sys
from urllib.parse import urlencode

import pytest

from tests.cast import basic, bearer

pytestmark = pytest.mark.process

# Answers each request that it reads in a process of its own, and tells what that asked of the database.
ANSWER_AND_COUNT = """
import json, os, sys
from config.wsgi import application
from django.db import connection
from django.test import RequestFactory

def answer(asked):
    statements, started = [], []
    def note(execute, sql, params, many, context):
        statements.append(sql)
        return execute(sql, params, many, context)
    form = "application/x-www-form-urlencoded"
    requests = RequestFactory(headers=asked["headers"], SERVER_NAME="localhost")
    environ = requests.generic(asked["method"], asked["path"], asked["body"], form).environ
    with connection.execute_wrapper(note):
        response = application(environ, lambda status, headers: started.append(int(status[:3])))
        body = b"".join(response).decode()
        response.close()
    return {"status": started[0], "body": json.loads(body), "statements": statements}

for asked in json.load(sys.stdin):
    child = os.fork()
    if child == 0:
        print(json.dumps(answer(asked)), flush=True)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit("a request was not answered")
"""
SELF = {"method": "GET", "path": "/api/v1/token/self", "body": ""}
GRANT = {"method": "POST", "path": "/oauth2/token", "body": "grant_type=client_credentials"}
OWNERS = ("environment", "tenant", "user")


def first_answers(server, asked: list[dict]) -> list[dict]:
    """What each request gets as the first one that a process answers."""
    lines = server.run(sys.executable, "-c", ANSWER_AND_COUNT, given=json.dumps(asked)).splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def tokens(server):
    """Per owner and kind, what the API answered when such a token was made."""
    ada, backend = server.visitor("cedar", "admin"), server.machine()
    environment = bearer(server.demo["environment_tokens"][0]["access_token"])
    made = {}
    for owner in OWNERS:
        for kind in ("access_token", "client_credentials"):
            body = {"name": f"First {kind}", "owner": owner, "kind": kind}
            if owner == "environment":
                answer = backend.api("POST", "tokens", {**body, "roles": ["backend"]}, **environment)
            else:
                grant = {"roles": ["viewer"]} if owner == "tenant" else {}
                answer = ada.api("POST", "tokens?tenant=cedar-001", {**body, **grant})
            assert answer.status_code == 201, answer.text
            made[owner, kind] = answer.json()
    return made


@pytest.fixture(scope="module")
def granted_before(server, tokens):
    """Each client has had a JWT, so that its place in the status list is there; the answers."""
    clients = [tokens[owner, "client_credentials"] for owner in OWNERS]
    return first_answers(server, [with_secret("basic", client, client["client_secret"]) for client in clients])


@pytest.fixture
def untouched(server):
    """No table has more or fewer rows after the test than before, but that of what the server has gathered (R9)."""
    before = counts_but_gathered(server)
    yield
    assert counts_but_gathered(server) == before


def counts_but_gathered(server) -> dict[str, int]:
    gathered = {"apitokens_usagehour", "sqlite_sequence"}
    return {table: count for table, count in server.database.counts().items() if table not in gathered}


def assert_read_little_and_wrote_nothing(answer: dict) -> None:
    assert len(answer["statements"]) <= 2, "\n".join(answer["statements"])
    assert {statement.split()[0] for statement in answer["statements"]} == {"SELECT"}


@pytest.mark.usefixtures("untouched")
def test_the_first_check_of_an_access_token_reads_little_and_writes_nothing(server, tokens):
    good = [tokens[owner, "access_token"] for owner in OWNERS]
    answers = first_answers(server, [{**SELF, "headers": bearer(token["access_token"])} for token in good])
    assert [answer["body"]["id"] for answer in answers] == [token["id"] for token in good]
    for answer in answers:
        assert_read_little_and_wrote_nothing(answer)


def test_the_very_first_grant_to_a_client_makes_its_place_in_the_status_list_and_no_more(granted_before):
    for answer in granted_before:
        assert (answer["status"], written(answer)) == (200, {"apitokens_statusslot", "apitokens_statuscounter"})


@pytest.mark.usefixtures("granted_before", "untouched")
def test_the_first_grant_to_a_client_reads_little_and_writes_nothing(server, tokens):
    good = [tokens[owner, "client_credentials"] for owner in OWNERS]
    answers = first_answers(
        server, [with_secret(way, token, token["client_secret"]) for token in good for way in ("basic", "body")]
    )
    assert [(answer["status"], answer["body"]["token_type"]) for answer in answers] == [(200, "Bearer")] * 6
    for answer in answers:
        assert_read_little_and_wrote_nothing(answer)


def written(answer: dict) -> set[str]:
    """The tables that its statements wrote."""
    return set(re.findall(r'(?:INSERT INTO|UPDATE|DELETE FROM) "?(\w+)"? ', "; ".join(answer["statements"])))


def only_counted(answer: dict) -> dict:
    """Without its statements, once they are seen to be the one of the limiter."""
    assert (len(answer["statements"]), written(answer)) == (1, {"apitokens_refusalcount"})
    return {name: value for name, value in answer.items() if name != "statements"}


def with_secret(way: str, client: dict, secret: str) -> dict:
    """The request for a JWT with that secret, as HTTP Basic or in the body."""
    if way == "basic":
        return {**GRANT, "headers": basic(client["client_id"], secret)}
    in_body = {"client_id": client["client_id"], "client_secret": secret}
    return {**GRANT, "body": f"{GRANT['body']}&{urlencode(in_body)}", "headers": {}}


def not_ours(secret: str) -> dict[str, str]:
    """What a typing error, a cut or a scanner makes of a secret."""
    other = "0" if secret[-1] != "0" else "1"
    middle = "0" if secret[-30] != "0" else "1"
    return {
        "wrong checksum": secret[:-1] + other,
        "wrong letter": f"{secret[:-30]}{middle}{secret[-29:]}",
        "truncated": secret[:-1],
        "truncated by half": secret[: len(secret) // 2],
        "too long by one": secret + "0",
        "too long by much": secret + "0" * 3000,
        "without its prefix": secret.split("_", 1)[1],
        "upper case": secret.upper(),
        "another marker": secret.replace("_at_", "_zz_").replace("_cs_", "_zz_"),
        "quoted": f'"{secret}"',
        "not ASCII": secret[:-1] + "ä",
        "a word": "password",
        "empty": "",
    }


def test_what_can_be_no_access_token_is_refused_without_a_look_at_any_token(server, tokens):
    table = not_ours(tokens["tenant", "access_token"]["access_token"])
    answers = first_answers(server, [{**SELF, "headers": bearer(text)} for text in table.values()])
    problem = {
        "type": "urn:tallystick:problem:invalid_token",
        "title": "Unauthorized",
        "status": 401,
        "detail": "The token is unknown, expired or malformed.",
        "code": "invalid_token",
    }
    refused = {"status": 401, "body": problem}
    assert dict(zip(table, map(only_counted, answers), strict=True)) == dict.fromkeys(table, refused)


@pytest.mark.parametrize("way", ["basic", "body"])
def test_what_can_be_no_client_secret_is_refused_without_a_look_at_any_client(server, tokens, way):
    token = tokens["tenant", "client_credentials"]
    table = not_ours(token["client_secret"])
    answers = dict(
        zip(table, first_answers(server, [with_secret(way, token, text) for text in table.values()]), strict=True)
    )
    error = {"error": "invalid_client", "error_description": "Unknown client or wrong secret."}
    if way == "body":
        # A parameter without a value is as good as not sent (RFC 6749 section 3.2): nothing that could be wrong.
        nothing_sent = "No client credentials: send them as HTTP Basic, in the body or as a client_assertion."
        answer = {"status": 400, "body": {**error, "error_description": nothing_sent}, "statements": []}
        assert answers.pop("empty") == answer
    refused = {"status": 401 if way == "basic" else 400, "body": error}
    assert {name: only_counted(answer) for name, answer in answers.items()} == dict.fromkeys(answers, refused)
