"""How long what is "dead" in the table of what happens when may live on: nowhere of ours, and 30 s in a status list.

Against the real server and its two workers. Every row has a client with a JWT. The change is made over HTTP, as by
everybody; from its answer on, our API and introspection refuse that JWT, whichever worker is asked. A reader of the
status list, in real time as well, is told of it by the list alone. Once it has been dead, it stays so.
"""

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from urllib.parse import urlsplit
from uuid import uuid4

import jwt
import pytest
import requests
import time_machine
from django.utils import timezone
from prometheus_client.mmap_dict import MmapedDict
from requests.cookies import RequestsCookieJar

from apitokens import keyring, status_list
from apitokens.models import ApiToken
from tests.cast import basic, bearer, claims_of, jwt_of
from tests.endings import ROWS
from tests.server import SECONDS_TO_ANSWER, WORKERS, Visitor
from tests.status_reader import INVALID, VALID, HTTPCache, Keys, Reader

BOUND = 30
MANY, FEW = 1_000, 24
ASKED_OFTEN = {"token disabled", "environment suspended"}
# With which the guard, a client of that environment, is stopped as well.
GUARDS_STOPPED = {"environment suspended", "environment deleted"}
# At once: as many as the workers have threads.
AT_ONCE = 2 * WORKERS


class Life:
    """The rows, their JWTs, and what one can ask of the server about them, each time by a connection of its own."""

    def __init__(self, server):
        self.server = server
        self.rows = json.loads(server.run(sys.executable, "-m", "tests.endings").splitlines()[-1])
        self.jwts = {name: self._granted(row) for name, row in self.rows.items()}

    def _granted(self, row):
        form = {"grant_type": "client_credentials", **row["asked"]}
        answer = self._post("/oauth2/token", form, row)
        assert answer.status_code == 200, answer.text
        return answer.json()["access_token"]

    def _post(self, path, form, client):
        headers = {**basic(client["client_id"], client["secret"]), "Connection": "close"}
        return requests.post(self.server.origin + path, form, headers=headers, timeout=SECONDS_TO_ANSWER)

    def api_accepts(self, name):
        headers = {**bearer(self.jwts[name]), "Connection": "close"}
        path = f"{self.server.origin}/api/v1/token/self"
        answer = requests.get(path, headers=headers, timeout=SECONDS_TO_ANSWER)
        # Which of the two is what is asked here, and what the test compares.
        assert answer.status_code in {200, 401}, answer.text
        return answer.status_code == 200

    def introspection_accepts(self, name, *, guarded=True):
        """Whose environment is stopped is refused as a guard too: its secret is right, so never as one who guesses."""
        answer = self._post("/oauth2/introspect", {"token": self.jwts[name]}, self.rows[name]["guard"])
        if not guarded:
            assert (answer.status_code, answer.json()["error"]) == (400, "unauthorized_client"), answer.text
            return False
        assert answer.status_code == 200, answer.text
        return answer.json()["active"]

    def accepted(self, name, times, *, guarded=True):
        """How often it was, of so many times, by API and introspection in turn."""
        ask = [self.api_accepts, partial(self.introspection_accepts, guarded=guarded)]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return sum(pool.map(lambda number: ask[number % 2](name), range(times)))

    def workers_that_refused(self):
        """By process, how often it has refused a credential at the API."""
        found = {}
        for file in (self.server.folder / "metrics").glob("counter_*.db"):
            for key, value, *_ in MmapedDict.read_all_values_from_file(str(file)):
                _, name, labels, _ = json.loads(key)
                if name == "tallystick_authentications_total" and labels["outcome"] != "accepted":
                    found[file.stem] = found.get(file.stem, 0) + value
        return found

    def fetched(self, uri, headers):
        path = self.server.origin + urlsplit(uri).path
        return requests.get(path, headers={**headers, "Connection": "close"}, timeout=SECONDS_TO_ANSWER)

    def key_set(self, name):
        path = f"/e/{self.rows[name]['environment']}/jwks.json"
        return jwt.PyJWKSet.from_dict(self.fetched(path, {}).json())

    # What happens

    def _as(self, who, row, method, path, body=None, *, status=200):
        visitor = Visitor(self.server.origin, RequestsCookieJar())
        visitor.cookies.update({"sessionid": row["sessions"][who], "csrftoken": uuid4().hex})
        answer = visitor.api(method, path, body)
        visitor.close()
        assert answer.status_code == status, (path, answer.text)
        return answer

    def of_tenant(self, method, path, body=None, **expected):
        def act(row):
            return self._as("owner", row, method, f"{path.format(**row)}?tenant={row['tenant']}", body, **expected)

        return act

    def of_vendor(self, method, path, body=None, **expected):
        def act(row):
            filled = {name: value.format(**row) for name, value in body.items()} if body else body
            joined = f"{path.format(**row)}?environment={row['environment']}"
            return self._as("vendor", row, method, joined, filled, **expected)

        return act

    def leave(self, row):
        visitor = Visitor(self.server.origin, RequestsCookieJar())
        visitor.cookies.update({"sessionid": row["sessions"]["member"]})
        answer = visitor.submit(f"/t/{row['tenant_slug']}/leave/")
        visitor.close()
        assert answer.status_code == 200, answer.text

    def erase(self, row):
        self.server.manage("erase_user", row["user"])

    def compromise(self, row):
        kid = jwt.get_unverified_header(self.jwts["signing key compromised"])["kid"]
        self.of_vendor("POST", f"signing-keys/{kid}/compromised")(row)

    def changes(self):
        off = {"is_enabled": False}
        return {
            "creator suspended": self.of_tenant("POST", "members/{member}/suspend"),
            "member leaves": self.leave,
            "member removed": self.of_tenant("DELETE", "members/{member}", status=204),
            "vendor member leaves": self.of_vendor("DELETE", "vendor-members/{vendor_member}", status=204),
            "user erased": self.erase,
            "token disabled": self.of_tenant("POST", "tokens/{token_id}/disable"),
            "token deleted": self.of_tenant("DELETE", "tokens/{token_id}", status=204),
            "JWTs ended": self.of_tenant("POST", "tokens/{token_id}/end-jwts"),
            "rotated as compromised": self.of_tenant(
                "POST", "tokens/{token_id}/rotate", {"compromised": True}, status=201
            ),
            "tenant suspended": self.of_vendor("POST", "tenants/{tenant}/suspend"),
            "tenant deleted": self.of_vendor("DELETE", "tenants/{tenant}", {"name": "{tenant_name}"}),
            "bound to a suspended tenant": self.of_vendor("POST", "tenants/{tenant}/suspend"),
            "environment suspended": self.of_vendor("POST", "environments/{environment}/suspend"),
            "environment deleted": self.of_vendor(
                "DELETE", "environments/{environment}", {"name": "{environment_name}"}
            ),
            "type disabled": lambda row: self._as(
                "vendor", row, "PATCH", f"token-types/tenant/client_credentials?environment={row['environment']}", off
            ),
            "signing key compromised": self.compromise,
        }

    def ways_back(self):
        on = {"is_enabled": True}
        return {
            "creator suspended": self.of_tenant("POST", "members/{member}/reinstate"),
            "token disabled": self.of_tenant("POST", "tokens/{token_id}/enable"),
            "tenant suspended": self.of_vendor("POST", "tenants/{tenant}/reinstate"),
            "tenant deleted": self.of_vendor("POST", "tenants/{tenant}/restore"),
            "bound to a suspended tenant": self.of_vendor("POST", "tenants/{tenant}/reinstate"),
            "environment suspended": self.of_vendor("POST", "environments/{environment}/reinstate"),
            "environment deleted": self.of_vendor("POST", "environments/{environment}/restore"),
            "type disabled": lambda row: self._as(
                "vendor", row, "PATCH", f"token-types/tenant/client_credentials?environment={row['environment']}", on
            ),
        }


class Watch(threading.Thread):
    """A resource server that looks into the lists once a second, and notes when it first learns of an end."""

    def __init__(self, life):
        super().__init__(daemon=True)
        self.life, self.learnt, self.stop, self.error = life, {}, threading.Event(), None
        self.readers = {
            name: Reader(_kept_apart(life), Keys(lambda name=name: life.key_set(name))) for name in life.rows
        }
        self.first = {name: self.readers[name].status(life.jwts[name]) for name in life.rows}
        self.start()

    def run(self):
        try:
            while not self.stop.wait(1):
                for name in self.life.rows.keys() - self.learnt.keys():
                    if self.readers[name].status(self.life.jwts[name]) == INVALID:
                        self.learnt[name] = time.monotonic()
        except Exception as error:  # noqa: BLE001 -- raised again in the test's own thread
            self.error = error

    def finish(self, *, by):
        """Until everything has been learnt, or that moment has passed."""
        while self.error is None and len(self.learnt) < len(self.life.rows) and time.monotonic() < by:
            time.sleep(0.2)
        self.stop.set()
        self.join(SECONDS_TO_ANSWER)
        if self.error:
            raise self.error


def _kept_apart(life):
    return lambda uri: life.fetched(uri, {}).text


@pytest.mark.process
def test_what_is_dead_is_refused_at_once_by_every_worker_and_within_thirty_seconds_by_the_list(server):
    life = Life(server)
    changes, ways_back = life.changes(), life.ways_back()
    assert list(changes) == ROWS
    watch = Watch(life)
    assert watch.first == dict.fromkeys(ROWS, VALID)
    before, after, again, changed_at = {}, {}, {}, {}
    refused_before = life.workers_that_refused()
    for name, row in life.rows.items():
        before[name] = life.accepted(name, 4)
        changes[name](row)
        changed_at[name] = time.monotonic()
        times = MANY if name in ASKED_OFTEN else FEW
        after[name] = life.accepted(name, times, guarded=name not in GUARDS_STOPPED)
    refused = {pid: count - refused_before.get(pid, 0) for pid, count in life.workers_that_refused().items()}
    watch.finish(by=max(changed_at.values()) + BOUND)
    for name, way_back in ways_back.items():
        way_back(life.rows[name])
        again[name] = life.accepted(name, FEW)
    assert before == dict.fromkeys(ROWS, 4)
    assert after == dict.fromkeys(ROWS, 0)
    assert again == dict.fromkeys(ways_back, 0)
    assert len(refused) == WORKERS
    assert min(refused.values()) > 0
    waited = {name: watch.learnt.get(name, float("inf")) - changed_at[name] for name in ROWS}
    assert {name: seconds for name, seconds in waited.items() if seconds > BOUND} == {}
    for name in ways_back:
        fresh = Reader(_kept_apart(life), Keys(lambda name=name: life.key_set(name)))
        assert fresh.status(life.jwts[name]) == INVALID, name


@pytest.mark.parametrize("fetched_by_cache", [0, 2.5, 4.9])
@pytest.mark.parametrize("fetched_by_reader", [0, 5, 9.9])
def test_caches_that_fill_each_other_at_the_worst_moments_add_up_to_the_bound(
    acme, machine, fetched_by_cache, fetched_by_reader
):
    """Our process keeps the list, then a cache on the way, then the reader. The clock is moved; nobody waits."""
    issued = acme.issue("admin", kind="client_credentials")
    cache = HTTPCache(lambda uri, headers: machine.get(urlsplit(uri).path, headers=headers))
    noon = (timezone.now() + timedelta(days=1)).replace(hour=12, minute=0, second=0, microsecond=0)
    status_list._kept.clear()
    with time_machine.travel(noon, tick=False) as clock:
        access = jwt_of(machine, issued)
        keys = jwt.PyJWKSet.from_json(machine.get(f"/e/{acme.environment.slug}/jwks.json").content.decode())
        uri = claims_of(access)["status"]["status_list"]["uri"]
        machine.get(urlsplit(uri).path)
        changed_at = time.time()
        ApiToken.objects.filter(pk=issued.token.pk).update(disabled_at=noon)
        clock.shift(fetched_by_cache)
        cache.get(uri)
        clock.shift(fetched_by_reader)
        reader = Reader(cache.get, keys)
        while reader.status(access) == VALID:
            clock.shift(0.1)
        waited = time.time() - changed_at
    assert status_list.TTL <= waited <= BOUND
    assert status_list.TTL * 2 <= BOUND


@pytest.mark.parametrize("state", ["active", "retiring"])
def test_the_list_tells_of_a_compromised_key_whoever_still_believes_it(world, machine, state):
    """It names no key: what its environment's clients have is ended, and they get new ones."""
    acme, environment = world.acme, world.production
    issued = acme.issue("admin", kind="client_credentials")
    access = jwt_of(machine, issued)
    before = jwt.PyJWKSet.from_json(machine.get(f"/e/{environment.slug}/jwks.json").content.decode())
    (signed,) = environment.signing_keys.all()
    if state == "retiring":
        environment.signing_keys.update(state="retiring", retiring_from=timezone.now())
        keyring.create_first_key(environment, at=timezone.now())
    answer = world.office.api("owner", "POST", f"signing-keys/{signed.kid}/compromised", environment=environment)
    assert answer.status_code == 200, answer.content
    keys = Keys(lambda: jwt.PyJWKSet.from_json(machine.get(f"/e/{environment.slug}/jwks.json").content.decode()))
    assert signed.kid in {key.key_id for key in before.keys}
    assert signed.kid not in {key.key_id for key in keys.held.keys}
    reader = Reader(lambda uri: machine.get(urlsplit(uri).path).content.decode(), keys)
    assert reader.status(access) == INVALID
    assert reader.status(jwt_of(machine, issued)) == VALID
