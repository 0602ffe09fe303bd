"""R1: a secret's plaintext is in the one answer that made it, and afterwards nowhere that we keep anything.

Looked for in all that the real server has stored, after every way to make a secret and to use or misuse one.
"""

import json
import secrets
import zlib
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from uuid import uuid4

import pytest
from django.contrib import messages
from django.contrib.messages.storage.cookie import MessageEncoder
from django.core import signing
from django.utils import timezone

from apitokens import credentials
from tests.cast import basic, bearer, shown
from tests.server import Server, Visitor

pytestmark = pytest.mark.process

KINDS = ("access_token", "client_credentials")
SECRET = {"access_token": "access_token", "client_credentials": "client_secret"}
NEW = "/t/birch/tokens/new/"


# What is stored, and how to find a secret in it


def everything_stored(server: Server, *visitors: Visitor) -> Iterator[tuple[str, str]]:
    """(where, text) of every cell of every table, every file the server wrote, and what it left in the visitors."""
    for table in server.database.tables():
        for row in server.database.rows(f'SELECT * FROM "{table}"'):  # noqa: S608 -- from the schema
            for value in row:
                yield from ((f"table {table}", text) for text in readings(value))
    # The log, the database file and its journal, counters, keys; all but what we ship.
    for path in sorted(path for path in server.folder.rglob("*") if path.is_file()):
        if (server.folder / "static") not in path.parents:
            yield f"file {path.name}", path.read_bytes().decode("latin-1")
    for line in server.log().splitlines():
        yield from (("log line", text) for text in readings(line))
    for visitor in visitors:
        for cookie in visitor.cookies:
            yield from ((f"cookie {cookie.name}", text) for text in readings(cookie.value))


def readings(value: object) -> Iterator[str]:
    """The texts that a stored value can be read as: itself, and what is inside JSON or what Django has signed."""
    if isinstance(value, bytes | memoryview):
        yield bytes(value).decode("latin-1")
        yield bytes(value).hex()
    elif isinstance(value, dict | list):
        for inner in [*value, *(value.values() if isinstance(value, dict) else ())]:
            yield from readings(inner)
    elif isinstance(value, str):
        yield value
        for inside in (_from_json(value), _from_signed(value)):
            if isinstance(inside, dict | list):
                yield from readings(inside)
    else:
        yield str(value)


def _from_json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _from_signed(text: str) -> object:
    """A session or a message cookie: JSON, perhaps compressed, in base64 before the first colon."""
    payload, _, signature = text.strip('"').partition(":")
    if not signature:
        return None
    try:
        data = signing.b64_decode(payload.removeprefix(".").encode())
        return json.loads(zlib.decompress(data) if payload.startswith(".") else data)
    except (ValueError, zlib.error):
        return None


def in_base64(encode, core: bytes) -> list[str]:
    """What of it can be seen in base64, at each of the three places where it may begin within three bytes."""
    seen = []
    for before, unsure in ((0, 0), (1, 2), (2, 3)):
        text = encode(bytes(before) + core).decode()
        seen.append(text[unsure : (before + len(core)) * 8 // 6])
    return seen


# Every character escaped, also where a library would leave it as it is.
ENCODINGS = {
    "plain": lambda core: [core],
    "base64": lambda core: in_base64(b64encode, core.encode()),
    "base64url": lambda core: in_base64(urlsafe_b64encode, core.encode()),
    "hex": lambda core: [core.encode().hex(), core.encode().hex().upper()],
    "url": lambda core: ["".join(f"%{ord(letter):02{form}}" for letter in core) for form in "xX"],
    "utf-16": lambda core: [
        *("".join(f"\\u{ord(letter):04{form}}" for letter in core) for form in "xX"),
        core.encode("utf-16-le").decode("latin-1"),
    ],
    "html": lambda core: ["".join(escape.format(ord(letter)) for letter in core) for escape in ("&#{};", "&#x{:x};")],
}


def found(plaintext: str, texts: Iterator[tuple[str, str]]) -> set[str]:
    """Where the secret is and how it is written there. It is looked for without what surrounds its 256 bits."""
    core = plaintext[-credentials.CHECKSUM_LENGTH - credentials.SECRET_LENGTH : -credentials.CHECKSUM_LENGTH]
    assert len(core) == credentials.SECRET_LENGTH
    needles = [(name, needle) for name, encode in ENCODINGS.items() for needle in encode(core)]
    return {f"{name} in {where}" for where, text in texts for name, needle in needles if needle in text}


def answers_with(plaintext: str, *visitors: Visitor) -> list:
    """The answers, of all that these got, whose body or headers hold the secret."""
    answers = [answer for visitor in visitors for answer in visitor.answers]
    return [answer for answer in answers if found(plaintext, [("", answer.text), ("", str(answer.headers))])]


# Ways to make a secret. Each returns (id, client id if any, plaintext).


def from_page(answer) -> tuple[str, str, str]:
    assert answer.status_code == 200, answer.text
    fields = shown(answer)
    return fields["token_id"], fields.get("client_id", ""), fields.get("access_token") or fields["client_secret"]


def from_api(answer) -> tuple[str, str, str]:
    assert answer.status_code == 201, answer.text
    body = answer.json()
    return body["id"], body["client_id"] or "", body.get("access_token") or body["client_secret"]


def order(**asked: object) -> dict[str, object]:
    return {"name": f"Shown once {uuid4().hex[:8]}", "owner": "tenant", "kind": "access_token", **asked}


def by_page(owner: str, kind: str):
    return lambda ada, backend: from_page(ada.submit(NEW, **order(owner=owner, kind=kind, roles="viewer")))


def by_api(owner: str, kind: str):
    asked = {"owner": owner, "kind": kind, "roles": ["viewer"]}
    return lambda ada, backend: from_api(ada.api("POST", "tokens?tenant=birch-001", order(**asked)))


def for_the_environment(kind: str):
    asked = {"owner": "environment", "kind": kind, "roles": ["backend"]}
    return lambda ada, backend: from_api(backend.api("POST", "tokens", order(**asked), **backend.credential))


def new_secret_by_page(kind: str):
    def make(ada, backend):
        token_id, _, _ = by_page("tenant", kind)(ada, backend)
        return from_page(ada.submit(f"/t/birch/tokens/{token_id}/rotate/", overlap="3600"))

    return make


def new_secret_by_api(kind: str):
    def make(ada, backend):
        token_id, _, _ = by_api("tenant", kind)(ada, backend)
        return from_api(ada.api("POST", f"tokens/{token_id}/rotate"))

    return make


def after_a_refused_form(kind: str):
    """The refused form comes back filled in as it was sent."""

    def make(ada, backend):
        form = {**ada.form(NEW), **order(kind=kind, roles="owner")}
        refused = ada.post(NEW, data=form)
        assert (refused.status_code, form["name"] in refused.text) == (422, True)
        return from_page(ada.post(NEW, data={**form, "roles": "viewer"}))

    return make


def sent_twice(kind: str):
    def make(ada, backend):
        form = {**ada.form(NEW), **order(kind=kind, roles="viewer")}
        made = from_page(ada.post(NEW, data=form))
        assert ada.post(NEW, data=form).status_code == 409
        return made

    return make


WAYS_TO_MAKE = {
    **{f"page, {owner}": (by_page, owner) for owner in ("tenant", "user")},
    **{f"API, {owner}": (by_api, owner) for owner in ("tenant", "user")},
    "API, environment": (for_the_environment,),
    "new secret, page": (new_secret_by_page,),
    "new secret, API": (new_secret_by_api,),
    "refused form": (after_a_refused_form,),
    "form sent twice": (sent_twice,),
}


@pytest.fixture
def ada(server):
    return server.visitor("birch", "admin")


@pytest.fixture
def backend(server):
    """The vendor's backend, with an environment's token that may make tokens."""
    visitor = server.machine()
    visitor.credential = bearer(server.demo["environment_tokens"][0]["access_token"])
    return visitor


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS_TO_MAKE)
def test_a_secret_is_in_the_answer_that_made_it_and_nowhere_else(server, ada, backend, way, kind):
    make, *given = WAYS_TO_MAKE[way]
    token_id, _, plaintext = make(*given, kind)(ada, backend)
    # What is there to be seen of the token afterwards.
    if way != "API, environment":
        for path in ("", f"{token_id}/", f"{token_id}/edit/", f"{token_id}/rotate/", f"{token_id}/delete/"):
            assert ada.get(f"/t/birch/tokens/{path}").status_code == 200
        assert ada.api("GET", f"tokens/{token_id}").status_code == 200
        assert ada.get("/t/birch/audit/").status_code == 200

    (answer,) = answers_with(plaintext, ada, backend)
    assert "no-store" in answer.headers.get("Cache-Control", "")
    assert found(plaintext, everything_stored(server, ada, backend)) == set()


# What may be done with a secret, as it should be and as it should not.


def grant(machine, **sent):
    return machine.post("/oauth2/token", data={"grant_type": "client_credentials", **sent})


def by_basic(machine, client_id, secret):
    data = {"grant_type": "client_credentials"}
    return machine.post("/oauth2/token", data=data, headers=basic(client_id, secret))


def call(method: str, path: str, **headers: str):
    """A call to the API with the secret where the braces are."""

    def use(machine, client_id, secret):
        sent = {name.replace("_", "-"): value.format(secret) for name, value in headers.items()}
        return machine.request(method.format(secret), path.format(secret), headers=sent)

    return use


# (use, statuses of the answer to an access token and to a client secret)
USES = {
    "token endpoint, Basic": (by_basic, 401, 200),
    "token endpoint, body": (lambda m, i, s: grant(m, client_id=i, client_secret=s), 400, 200),
    "token endpoint, as client id": (lambda m, i, s: grant(m, client_id=s, client_secret=s), 400, 400),
    "token endpoint, as scope": (lambda m, i, s: grant(m, client_id=i, client_secret=s, scope=s), 400, 400),
    "token endpoint, as tenant": (lambda m, i, s: grant(m, client_id=i, client_secret=s, tenant=s), 400, 400),
    "token endpoint, as grant type": (lambda m, i, s: m.post("/oauth2/token", data={"grant_type": s}), 400, 400),
    "token endpoint, query": (call("POST", "/oauth2/token?client_secret={}"), 400, 400),
    "token endpoint, JSON": (lambda m, i, s: m.post("/oauth2/token", json={"client_secret": s}), 400, 400),
    "API, Bearer": (call("GET", "/api/v1/token/self", Authorization="Bearer {}"), 200, 401),
    "API, Basic": (lambda m, i, s: m.get("/api/v1/token/self", headers=basic(i, s)), 401, 401),
    "API, Basic as user name": (lambda m, i, s: m.get("/api/v1/token/self", headers=basic(s, "")), 401, 401),
    "API, unknown scheme": (call("GET", "/api/v1/token/self", Authorization="Token {}"), 401, 401),
    "API, no scheme": (call("GET", "/api/v1/token/self", Authorization="{}"), 401, 401),
    "API, query": (call("GET", "/api/v1/tokens?access_token={}"), 401, 401),
    "API, query as tenant": (call("GET", "/api/v1/tokens?tenant={}"), 401, 401),
    "API, path": (call("GET", "/api/v1/tokens/{}", Authorization="Bearer {}"), 404, 401),
    "API, path of nothing": (call("GET", "/api/v1/{}"), 404, 404),
    "API, method": (call("{}", "/api/v1/tokens"), 401, 401),
    "API, body as tenant": (
        lambda m, i, s: m.api("POST", "tokens", order(roles=["viewer"], tenant=s), **bearer(s)),
        404,
        401,
    ),
    "API, body as unknown field": (lambda m, i, s: m.api("POST", "tokens", {s: s}, **bearer(s)), 400, 401),
    "API, body of another form": (
        lambda m, i, s: m.post("/api/v1/tokens", data={"access_token": s}, headers=bearer(s)),
        415,
        401,
    ),
    "page, path": (call("GET", "/t/birch/tokens/{}/"), 200, 200),
    "page, query": (call("GET", "/t/birch/tokens/?access_token={}"), 200, 200),
    "page of nothing": (call("GET", "/{}"), 404, 404),
    "headers": (call("GET", "/readyz", Referer="http://x.example/{}", X_Request_Id="{}", User_Agent="{}"), 200, 200),
    "Host": (call("GET", "/api/v1/token/self", Host="{}.example"), 400, 400),
    "cookies": (call("GET", "/t/birch/tokens/", Cookie="sessionid={0}; csrftoken={0}; messages={0}"), 200, 200),
    "sign-in": (lambda m, i, s: m.submit("/accounts/login/", login="nobody@birch.example", password=s), 200, 200),
}
# Who follows such a link to a page is asked to sign in and led back to it: the address goes round with them.
SENT_ROUND = {"page, path", "page, query"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("use", USES)
def test_a_secret_that_is_used_or_misused_is_kept_nowhere_and_not_sent_back(server, ada, backend, use, kind):
    _, client_id, plaintext = by_api("tenant", kind)(ada, backend)
    machine = server.machine()
    send, *statuses = USES[use]
    answer = send(machine, client_id or "acorn_production_none", plaintext)
    assert answer.status_code == statuses[KINDS.index(kind)], answer.text
    if use not in SENT_ROUND:
        assert answers_with(plaintext, machine) == []
    assert found(plaintext, everything_stored(server, ada, machine)) == set()


def test_a_person_who_pastes_a_secret_into_an_address_leaves_it_nowhere(server, ada, backend):
    _, _, plaintext = by_page("tenant", "access_token")(ada, backend)
    statuses = [
        ada.get(f"/t/birch/tokens/{plaintext}/").status_code,
        ada.get(f"/t/{plaintext}/tokens/").status_code,
        ada.get(f"/t/birch/tokens/?cursor={plaintext}").status_code,
        ada.api("GET", f"tokens?tenant={plaintext}").status_code,
        ada.api("GET", f"tokens/{plaintext}").status_code,
        ada.api("POST", f"tokens/{plaintext}/rotate").status_code,
        ada.api("POST", "tokens", order(roles=["viewer"], tenant=plaintext)).status_code,
        ada.submit(NEW, **order(roles="viewer"), nonce=plaintext[:64]).status_code,
    ]
    assert statuses == [404, 404, 404, 401, 404, 404, 404, 200]
    assert len(answers_with(plaintext, ada)) == 1
    assert found(plaintext, everything_stored(server, ada)) == set()


# A test of the tester: what is planted is found, wherever it is and however it is written.


def plant_in_session(server, ada, text):
    data = signing.dumps({"draft": text}, salt="planted", compress=True)
    server.database.rows(
        "INSERT INTO django_session (session_key, session_data, expire_date) VALUES (%s, %s, %s)",
        (uuid4().hex, data, timezone.now().isoformat()),
    )


def plant_in_message(server, ada, text):
    message = messages.storage.base.Message(messages.SUCCESS, text)
    encoded = json.dumps([message, *([message] * 8)], cls=MessageEncoder)
    signed = signing.Signer(salt="planted").sign_object(json.loads(encoded), compress=True)
    ada.cookies.set("messages", f'"{signed}"', path=f"/{uuid4().hex}")


def plant_in_cookie(server, ada, text):
    ada.cookies.set("draft", text, path=f"/{uuid4().hex}")


def plant_in_column(server, ada, text):
    server.database.rows(
        "INSERT INTO cache (cache_key, value, expires) VALUES (%s, %s, %s)",
        (uuid4().hex, f"before {text} after", timezone.now().isoformat()),
    )


def plant_in_binary_column(server, ada, text):
    server.database.rows(
        "INSERT INTO apitokens_issuenonce (actor_id, digest, created_at) VALUES (%s, %s, %s)",
        (uuid4().hex, text.encode("latin-1"), timezone.now().isoformat()),
    )


def plant_in_audit(server, ada, text):
    columns = "id, at, actor_kind, verb, outcome, reason, target_kind, request_id, after"
    values = (uuid4().hex, timezone.now().isoformat(), "system", "planted", "done", "", "plant", "")
    server.database.rows(
        f"INSERT INTO audit_auditevent ({columns}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",  # noqa: S608 -- ours
        (*values, json.dumps({"name": f"x{text}x"})),
    )


def plant_in_log(server, ada, text):
    with server.log_file.open("a") as log:
        log.write(json.dumps({"event": text}) + "\n")


NUL_BYTES = 2  # the form of utf-16 that a text can't hold
STORES = {
    "table django_session": plant_in_session,
    "cookie messages": plant_in_message,
    "cookie draft": plant_in_cookie,
    "table cache": plant_in_column,
    "table apitokens_issuenonce": plant_in_binary_column,
    "table audit_auditevent": plant_in_audit,
    "log line": plant_in_log,
}


@pytest.mark.parametrize("where", STORES)
def test_a_secret_that_is_kept_anywhere_is_found_however_it_is_written(server, ada, where):
    planted = {}
    for name, encode in ENCODINGS.items():
        for form, _ in enumerate(encode("x")):
            if name == "utf-16" and form == NUL_BYTES and where != "table apitokens_issuenonce":
                continue
            planted[name, form] = new_secret()
            STORES[where](server, ada, written(name, form, planted[name, form]))
    stored = list(everything_stored(server, ada))
    missed = [how for how, plaintext in planted.items() if f"{how[0]} in {where}" not in found(plaintext, stored)]
    assert missed == []


def test_a_secret_that_no_one_kept_is_not_found(server, ada):
    assert found(new_secret(), everything_stored(server, ada)) == set()


def test_what_is_searched_is_the_log_and_the_database_itself(server, ada):
    name = order()["name"]
    ada.submit(NEW, **order(name=name, roles="viewer"))
    assert f'"path": "{NEW}"' in server.log()
    places = {where for where, text in everything_stored(server, ada) if name in text}
    assert {"table apitokens_apitoken", "table audit_auditevent"} <= places
    if not server.database.url:
        assert places & {"file db.sqlite3", "file db.sqlite3-wal"}


def new_secret() -> str:
    return credentials.mint(
        prefix="planted", marker="at", token_id=credentials.new_token_id(), peppers={1: secrets.token_bytes(32)}
    ).plaintext


def written(name: str, form: int, plaintext: str) -> str:
    """The whole secret in that encoding; in base64 the form is how many bytes stand before it."""
    if name in ("base64", "base64url"):
        encode = b64encode if name == "base64" else urlsafe_b64encode
        core_begins = plaintext.index(plaintext[-49:-6])
        return encode(bytes((form - core_begins) % 3) + plaintext.encode()).decode()
    return ENCODINGS[name](plaintext)[form]
