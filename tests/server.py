"""The product itself, as `make run` starts it, in processes of its own: for what no test inside one process can show.

Two workers, the static files as shipped, the log at DEBUG in a file. The database is a file of SQLite, or, where
DATABASE_URL names a PostgreSQL, a fresh database beside that one.
"""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urljoin, urlsplit
from uuid import uuid4

import psycopg
import requests
from requests.cookies import RequestsCookieJar

from tests.__main__ import DEPLOYMENT
from tests.machine import free_port

HOME = Path(__file__).resolve().parent.parent
WORKERS = 2
SECONDS_TO_START = 120
# An identity provider of a test answers here.
ON_THIS_MACHINE = {"OUTBOUND_NETWORKS": "127.0.0.0/8"}
SECONDS_TO_STOP = 15
SECONDS_TO_ANSWER = 30
# What the runner sets for tests inside its process, and what is set here.
OF_THE_RUNNER = {"STATICFILES_STORAGE", "VAR_DIR"}


@dataclass(frozen=True)
class Database:
    """The server's database, reached past the product. SQL has `%s` for a value on both."""

    url: str
    file: Path

    def rows(self, sql: str, values: tuple = ()) -> list[tuple]:
        if self.url:
            with psycopg.connect(self.url, autocommit=True) as connection:
                cursor = connection.execute(sql, values or None)
                return cursor.fetchall() if cursor.description else []
        with closing(sqlite3.connect(self.file, timeout=20, isolation_level=None)) as connection:
            return connection.execute(sql.replace("%s", "?"), values).fetchall()

    def tables(self) -> list[str]:
        if self.url:
            found = self.rows("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        else:
            found = self.rows("SELECT name FROM sqlite_master WHERE type = 'table'")
        return sorted(name for (name,) in found)

    def counts(self) -> dict[str, int]:
        """How many rows every table has."""
        return {table: self.rows(f'SELECT count(*) FROM "{table}"')[0][0] for table in self.tables()}  # noqa: S608 -- from the schema


class Visitor(requests.Session):
    """A program that speaks HTTP to the server, with a person's cookies or none. It keeps every answer."""

    def __init__(self, origin: str, cookies: RequestsCookieJar) -> None:
        super().__init__()
        self.trust_env = False  # no proxy stands between this machine and itself
        self.origin = origin
        self.answers: list[requests.Response] = []
        self.hooks["response"].append(lambda answer, **_: self.answers.append(answer))
        self.cookies = cookies.copy()

    def request(self, method, url, **options):
        options.setdefault("timeout", SECONDS_TO_ANSWER)
        return super().request(method, urljoin(self.origin, url), **options)

    def form(self, path: str) -> dict[str, str]:
        """The hidden fields of a form as rendered: its nonce and its CSRF token."""
        page = self.get(path)
        assert page.status_code == 200, page.text
        return dict(re.findall(r'name="(nonce|csrfmiddlewaretoken)" value="([^"]+)"', page.text))

    def submit(self, path: str, **filled: object) -> requests.Response:
        """Opens a form, fills it in and sends it."""
        return self.post(path, data={**self.form(path), **filled})

    def api(self, method: str, path: str, body: object = None, **headers: str) -> requests.Response:
        """A call to the API; with cookies it is the portal session's, which must prove that it is no other site's."""
        if csrf := self.cookies.get("csrftoken"):
            headers["X-CSRFToken"] = csrf
        return self.request(method, f"/api/v1/{path}", json=body, headers=headers)


@dataclass(repr=False)
class Server:
    """`demo` is what `manage.py demo --json` said: everybody's password and the environments' secrets."""

    origin: str
    folder: Path
    environment: dict[str, str]
    database: Database
    demo: dict = field(default_factory=dict)
    _cookies: dict[str, RequestsCookieJar] = field(default_factory=dict)
    _visitors: list[Visitor] = field(default_factory=list)
    _process: subprocess.Popen | None = None

    @property
    def log_file(self) -> Path:
        return self.folder / "server.log"

    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def manage(self, *arguments: str) -> str:
        return self.run(sys.executable, "manage.py", *arguments)

    def run(self, *command: str, given: str = "") -> str:
        """The output of a program that is surrounded as the server is."""
        ended = subprocess.run(  # noqa: S603 -- our own commands
            command,
            cwd=HOME,
            env=self.environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=SECONDS_TO_START,
        )
        if ended.returncode:
            raise RuntimeError(f"{' '.join(command)[:200]} failed:\n{ended.stderr[-4000:]}")
        return ended.stdout

    def tenant(self, slug: str) -> dict[str, str]:
        return next(tenant for tenant in self.demo["tenants"] if tenant["slug"] == slug)

    def person(self, tenant: str, role: str) -> dict[str, str]:
        people = self.demo["users"]
        return next(person for person in people if (person["tenant_slug"], person["role"]) == (tenant, role))

    def machine(self) -> Visitor:
        return self._visitor(RequestsCookieJar())

    def visitor(self, tenant: str, role: str) -> Visitor:
        """That person, signed in. The password is sent once a run: signing in is limited, and slow on purpose."""
        person = self.person(tenant, role)
        if person["email"] not in self._cookies:
            at_the_door = self.machine()
            answer = at_the_door.submit("/accounts/login/", login=person["email"], password=person["password"])
            assert "sessionid" in at_the_door.cookies, answer.text
            self._cookies[person["email"]] = at_the_door.cookies
        return self._visitor(self._cookies[person["email"]])

    def _visitor(self, cookies: RequestsCookieJar) -> Visitor:
        self._visitors.append(Visitor(self.origin, cookies))
        return self._visitors[-1]

    def start(self) -> None:
        """Returns when it is ready to work."""
        port = urlsplit(self.origin).port
        command = [sys.executable, "manage.py", "serve", f"--port={port}", f"--workers={WORKERS}"]
        with self.log_file.open("ab") as log:
            # A session of its own, so that Ctrl-C ends the tests first and the server after them.
            self._process = subprocess.Popen(  # noqa: S603 -- our own command
                command, cwd=HOME, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        _wait_until_ready(self, self._process)

    def stop(self) -> None:
        """In order, as an operator would."""
        process = self._process
        if process is None:
            return
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(SECONDS_TO_STOP)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # workers that outlived it, if any
        process.wait()

    def kill(self) -> None:
        """All its processes at once, as a machine that loses its power does."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def close(self) -> None:
        for visitor in self._visitors:
            visitor.close()


@contextmanager
def running_server(*, beside: str | None = None, **variables: str) -> Iterator[Server]:
    """The server, started from nothing and stopped at the end, with its data gone; `variables` configure it.

    Its database is a new one `beside` that one, by default beside the one that DATABASE_URL names, if any.
    """
    port = free_port()
    origin = f"http://localhost:{port}"
    with tempfile.TemporaryDirectory(prefix="tallystick-server-") as name, _database(Path(name), beside) as database:
        kept = {key: value for key, value in os.environ.items() if key not in DEPLOYMENT | OF_THE_RUNNER}
        environment = {**kept, "VAR_DIR": name, "ORIGIN": origin, "LOG_LEVEL": "DEBUG", **ON_THIS_MACHINE, **variables}
        if database.url:
            environment["DATABASE_URL"] = database.url
        server = Server(origin=origin, folder=Path(name), environment=environment, database=database)
        _prepare(server)
        try:
            server.start()
            yield server
        finally:
            server.close()
            server.stop()


@contextmanager
def _database(folder: Path, beside: str | None) -> Iterator[Database]:
    beside = beside or os.environ.get("DATABASE_URL")
    if not beside:
        yield Database(url="", file=folder / "db.sqlite3")
        return
    name = f"tallystick_server_{uuid4().hex[:12]}"
    with psycopg.connect(beside, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    try:
        yield Database(url=urlsplit(beside)._replace(path=f"/{name}").geturl(), file=folder / "db.sqlite3")
    finally:
        with psycopg.connect(beside, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _prepare(server: Server) -> None:
    server.run(sys.executable, "-m", "config.keyfiles", str(server.folder))
    # It needs no database, so it need not wait for one.
    command = [sys.executable, "manage.py", "collectstatic", "--noinput", "--verbosity=0"]
    with subprocess.Popen(command, cwd=HOME, env=server.environment) as collecting:  # noqa: S603 -- our own command
        server.manage("migrate", "--verbosity=0")
        server.demo = json.loads(server.manage("demo", "--json").splitlines()[-1])
    if collecting.returncode:
        raise RuntimeError("collectstatic failed; its output is above")


def _wait_until_ready(server: Server, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    answer = "no answer yet"
    while process.poll() is None and time.monotonic() < deadline:
        try:
            response = server.machine().get("/readyz", timeout=5)
        except requests.ConnectionError:
            time.sleep(0.05)
            continue
        if response.status_code == 200:
            return
        answer = response.text
        time.sleep(0.2)
    state = "still runs" if process.poll() is None else f"ended with {process.returncode}"
    raise RuntimeError(f"The server is not ready ({state}; {answer}). Its log ends:\n{server.log()[-4000:]}")
