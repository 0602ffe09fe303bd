"""Rotation under load, in the server as it ships: no verifier that keeps the JWKS for its full max-age refuses a JWT
that is good, whatever state the keys are in; and no secret that is right is refused while peppers change."""

import re
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import jwt as pyjwt
import pytest
import requests

from apitokens.credentials import ID_LENGTH
from tests.cast import basic, bearer
from tests.server import HOME, running_server

pytestmark = pytest.mark.process
MAX_AGE = 2
# Of requests and verifications, whatever else happens.
SECONDS_OF_LOAD = 10
# How long a machine keeps a JWT and sends it again: less than its lifetime, longer than the max-age.
SECONDS_KEPT = 3
SECONDS_AT_MOST = 120
CLIENTS = 2
# Begun at different moments, so that their copies are of every age.
VERIFIERS = 3


@pytest.fixture(scope="module")
def server():
    with running_server(JWKS_MAX_AGE=str(MAX_AGE)) as running:
        running.production = running.demo["environments"][0]
        running.secrets = running.demo["environment_tokens"][0]
        yield running


class Verifier:
    """A resource server that fetches the JWKS only when its copy is as old as it may be, and never in between."""

    def __init__(self, environment):
        self.environment, self.keys, self.stale_at = environment, {}, 0.0
        self.lock = threading.Lock()

    def verify(self, jwt):
        kid = pyjwt.get_unverified_header(jwt)["kid"]
        return pyjwt.decode(
            jwt,
            self._keys()[kid],
            algorithms=["ES256"],
            audience=self.environment["audience"],
            issuer=self.environment["issuer"],
        )

    def _keys(self):
        with self.lock:
            if time.monotonic() >= self.stale_at:
                answer = requests.get(f"{self.environment['issuer']}/jwks.json", timeout=20)
                kept = int(re.fullmatch(r"public, max-age=(\d+)", answer.headers["Cache-Control"])[1])
                self.stale_at = time.monotonic() + kept
                self.keys = {key["kid"]: pyjwt.PyJWK(key).key for key in answer.json()["keys"]}
            return self.keys


class Load:
    """Clients that work without a pause; every refusal is written down."""

    def __init__(self, server):
        self.server, self.failures, self.is_over = server, [], threading.Event()

    def run(self, number):
        with requests.Session() as session:
            while not self.is_over.is_set():
                try:
                    self.work(session, number)
                except Exception as error:  # noqa: BLE001 -- any of them is a failure
                    self.failures.append(repr(error))
                    time.sleep(0.1)

    def ask_for_jwt(self, session):
        answer = session.post(
            f"{self.server.origin}/oauth2/token",
            data={"grant_type": "client_credentials"},
            headers=basic(self.server.secrets["client_id"], self.server.secrets["client_secret"]),
            timeout=20,
        )
        answer.raise_for_status()
        return answer.json()["access_token"]

    def show_to_our_api(self, session, token):
        session.get(f"{self.server.origin}/api/v1/token/self", headers=bearer(token), timeout=20).raise_for_status()


class Rotation(Load):
    """Each client gets JWTs and uses each for some seconds, at verifiers and at our own API."""

    def __init__(self, server):
        super().__init__(server)
        self.verifiers = [Verifier(server.production) for _ in range(VERIFIERS)]
        self.signed, self.verified = Counter(), Counter()
        self.kept = [[] for _ in range(CLIENTS)]

    def kids_in_use(self):
        return {kid for kept in self.kept for _, kid, _ in list(kept)}

    def work(self, session, number):
        kept, jwt = self.kept[number], self.ask_for_jwt(session)
        kid = pyjwt.get_unverified_header(jwt)["kid"]
        self.signed[kid] += 1
        kept.append((time.monotonic(), kid, jwt))
        while time.monotonic() - kept[0][0] > SECONDS_KEPT:
            del kept[0]
        # The eldest that is still in use, and the one of this moment.
        for _, kid, jwt in (kept[0], kept[-1]):
            for verifier in self.verifiers:
                verifier.verify(jwt)
                self.verified[kid, "offline"] += 1
            self.show_to_our_api(session, jwt)
            self.verified[kid, "our API"] += 1


class Secrets(Load):
    """Each client uses a client secret and an access token, and waits when there is no server."""

    def __init__(self, server):
        super().__init__(server)
        self.worked = 0

    def work(self, session, number):
        try:
            self.ask_for_jwt(session)
            self.show_to_our_api(session, self.server.secrets["access_token"])
        except requests.ConnectionError:
            time.sleep(0.1)
        else:
            self.worked += 1

    def restart(self, meanwhile=lambda: None):
        self.server.stop()
        meanwhile()
        self.worked = 0
        self.server.start()

    def has_worked_since_start(self):
        return self.worked > CLIENTS

    def peppers(self):
        """The numbers of the peppers that the two secrets in use are under."""
        ids = (self.server.secrets["client_id"], self.server.secrets["access_token"].split("_at_")[1][:ID_LENGTH])
        rows = self.server.database.rows(
            "SELECT pepper_id FROM apitokens_secret WHERE token_id IN "
            "(SELECT id FROM apitokens_apitoken WHERE client_id = %s OR token_id = %s)",
            ids,
        )
        assert len(rows) == len(ids)
        return {number for (number,) in rows}


@contextmanager
def under_load(load):
    threads = [threading.Thread(target=load.run, args=[number], daemon=True) for number in range(CLIENTS)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    try:
        yield load
        time.sleep(max(0, began + SECONDS_OF_LOAD - time.monotonic()))
    finally:
        load.is_over.set()
        for thread in threads:
            thread.join(SECONDS_AT_MOST)


def until(is_so):
    deadline = time.monotonic() + SECONDS_AT_MOST
    while not is_so():
        assert time.monotonic() < deadline, "it does not come to that"
        time.sleep(0.2)


def states(server):
    rows = server.database.rows(
        "SELECT kid, state FROM apitokens_signingkey WHERE environment_id = "
        "(SELECT id FROM tenants_environment WHERE slug = %s)",
        (server.production["slug"],),
    )
    return dict(rows)


def test_keys_change_under_load_and_nobody_refuses_a_good_jwt(server):
    (first,) = states(server)
    with under_load(Rotation(server)) as load:
        until(lambda: load.verified[first, "offline"])
        with moved_at_the_first_moment(server):
            second = server.manage("keys", "rotate", "--environment", server.production["slug"]).split()[1]
            until(lambda: states(server) == {first: "retiring", second: "active"})
        # As after an hour nobody uses what the first key signed.
        until(lambda: load.kids_in_use() == {second} and load.verified[second, "offline"])
        _replaced_two_hours_ago(server, first)
        assert "Keys moved: 1." in server.manage("keys", "move")
        assert states(server) == {first: "retired", second: "active"}
        # Until every verifier has a copy without it.
        until(lambda: all(set(verifier.keys) == {second} for verifier in load.verifiers))
    assert load.failures == []
    told = server.database.rows("SELECT verb FROM audit_auditevent WHERE target_kind = 'signing_key' ORDER BY id")
    assert [verb.removeprefix("signing_key.") for (verb,) in told] == ["published", "replaced", "activated", "retired"]
    assert set(load.signed) == {first, second}
    assert set(load.verified) == {(kid, where) for kid in (first, second) for where in ("offline", "our API")}


@contextmanager
def moved_at_the_first_moment(server):
    """A worker that never rests, so that a key has just the time that it must have between its steps."""
    begun = server.folder / "moving"
    program = (
        "from pathlib import Path; from time import sleep; from django.utils.timezone import now; "
        "from apitokens.governance import signing_keys; "
        f"Path({str(begun)!r}).touch()\n"
        "while not signing_keys.move(at=now()): sleep(0.02)"
    )
    command = [sys.executable, "manage.py", "shell", "-c", program]
    with subprocess.Popen(command, cwd=HOME, env=server.environment) as mover:  # noqa: S603 -- our own command
        try:
            until(begun.exists)
            yield
        finally:
            mover.terminate()


def _replaced_two_hours_ago(server, kid):
    at = datetime.now(UTC) - timedelta(hours=2)
    told = at.isoformat(sep=" ") if server.database.url else f"{at:%Y-%m-%d %H:%M:%S.%f}"
    server.database.rows("UPDATE apitokens_signingkey SET retiring_from = %s WHERE kid = %s", (told, kid))


def test_peppers_change_under_load_and_no_right_secret_is_refused(server):
    with under_load(Secrets(server)) as load:
        until(load.has_worked_since_start)
        assert "Pepper 2 is in" in server.manage("peppers", "add")
        assert load.peppers() == {1}
        load.restart()
        until(load.has_worked_since_start)
        # What was learnt meanwhile is written when the server ends; it starts again without the old pepper.
        load.restart(lambda: _remove_pepper(server, 1))
        until(load.has_worked_since_start)
        assert load.peppers() == {2}
        assert "MISSING" in server.manage("peppers"), "of secrets that nobody used"
    assert load.failures == []


def _remove_pepper(server, number):
    file = server.folder / "peppers"
    kept = [line for line in file.read_text().splitlines() if not line.startswith(f"{number}:")]
    file.write_text("\n".join(kept))
