"""What the tests need of the machine they run on: a PostgreSQL cluster and a Chromium.

Both are looked for first; on Debian, root gets them installed.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from playwright.sync_api import sync_playwright

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
SECONDS_TO_START = 30
SECONDS_TO_STOP = 20
# A crash may lose these data: they live for one run.
FAST_AND_LOOSE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
# Only TCP: a socket's path may be no longer than 107 characters, and TMPDIR may be long.
LOOPBACK_ONLY = {"listen_addresses": "127.0.0.1", "unix_socket_directories": ""}


class Missing(Exception):
    """This machine lacks something and we cannot install it."""


def chromium() -> str:
    """The path of a Chromium."""
    if named := os.environ.get("CHROMIUM"):
        return named
    found = find_chromium()
    if not found and can_apt_install():
        apt_install("chromium")
        found = find_chromium()
    if not found:
        found = playwright_chromium()
    if not found:
        raise Missing("no Chromium in PATH or $CHROMIUM, and none could be installed")
    return found


def find_chromium() -> str | None:
    return next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)


def playwright_chromium() -> str | None:
    print("Installing Playwright's Chromium", flush=True)
    if subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"]).returncode:
        return None
    with sync_playwright() as playwright:
        return playwright.chromium.executable_path


@dataclass(kw_only=True)
class Cluster:
    """A PostgreSQL that can be stopped and started again where it was."""

    folder: Path
    binaries: Path
    port: int
    identity: dict
    server: subprocess.Popen

    @property
    def url(self) -> str:
        return f"postgres://tallystick@127.0.0.1:{self.port}/tallystick"

    def stop(self) -> None:
        stop(self.server)

    def start(self) -> None:
        self.server = start_server(self.binaries, self.folder, self.port, self.identity)
        wait_until_it_answers(self.server, self.port, self.folder / "log").close()


@contextmanager
def postgres_cluster() -> Iterator[Cluster]:
    """A PostgreSQL that listens on a free loopback port and is gone afterwards."""
    binaries = postgres_binaries()
    with tempfile.TemporaryDirectory(prefix="tallystick-postgres-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        identity = server_identity()
        if identity:
            shutil.chown(folder, identity["user"], identity["group"])
        initdb = [binaries / "initdb", "--pgdata", folder / "data", "--username", "tallystick"]
        initdb += ["--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync"]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd=folder, **identity)
        port = free_port()
        server = start_server(binaries, folder, port, identity)
        cluster = Cluster(folder=folder, binaries=binaries, port=port, identity=identity, server=server)
        try:
            with wait_until_it_answers(server, port, folder / "log") as connection:
                connection.execute("CREATE DATABASE tallystick")
            yield cluster
        finally:
            cluster.stop()


def start_server(binaries: Path, folder: Path, port: int, identity: dict) -> subprocess.Popen:
    settings = FAST_AND_LOOSE | LOOPBACK_ONLY
    command = [binaries / "postgres", "-D", folder / "data", "-p", str(port)]
    command += [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
    # A session of its own, so that Ctrl-C stops the tests first and the cluster after them.
    with (folder / "log").open("a") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, start_new_session=True, **identity)


def postgres_binaries() -> Path:
    found = find_postgres_binaries()
    if not found and can_apt_install():
        apt_install("postgresql")
        found = find_postgres_binaries()
    if not found:
        raise Missing("no PostgreSQL server found; set TEST_DATABASE_URL or install one")
    return found


def find_postgres_binaries() -> Path | None:
    """The folder with initdb and postgres; Debian keeps it out of PATH, one for each version."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    folders = [Path(found).resolve().parent for found in (shutil.which("initdb"),) if found]
    folders += reversed(versions)
    if pg_config := shutil.which("pg_config"):
        answer = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True)
        folders.append(Path(answer.stdout.strip()))
    return next((folder for folder in folders if has_server(folder)), None)


def has_server(folder: Path) -> bool:
    return all((folder / name).is_file() for name in ("initdb", "postgres"))


def server_identity() -> dict:
    """Whom Popen shall become to start PostgreSQL, which refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    accounts = {entry.pw_name: entry for entry in pwd.getpwall()}
    for name in ("postgres", "nobody"):
        if name in accounts:
            return {"user": name, "group": accounts[name].pw_gid, "extra_groups": []}
    raise Missing("PostgreSQL does not run as root, and there is no user postgres or nobody")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_it_answers(server: subprocess.Popen, port: int, log: Path) -> psycopg.Connection:
    deadline = time.monotonic() + SECONDS_TO_START
    while True:
        try:
            dsn = f"host=127.0.0.1 port={port} user=tallystick dbname=postgres"
            return psycopg.connect(dsn, autocommit=True)
        except psycopg.OperationalError as error:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text()}") from error
            time.sleep(0.05)


def stop(server: subprocess.Popen) -> None:
    server.send_signal(signal.SIGINT)  # what pg_ctl calls a fast stop: ends sessions, then shuts down
    try:
        server.wait(SECONDS_TO_STOP)
    except subprocess.TimeoutExpired:
        server.send_signal(signal.SIGQUIT)
        server.wait(SECONDS_TO_STOP)


def can_apt_install() -> bool:
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def apt_install(package: str) -> None:
    """Tries to; what apt-get says of a failure is on the screen, and the caller looks again anyway."""
    print(f"Installing {package}", flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", package]):
        subprocess.run(["apt-get", *command], env=environment, stdout=subprocess.DEVNULL)
