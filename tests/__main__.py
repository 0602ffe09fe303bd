"""What `make test` runs: the suite on SQLite, the suite on PostgreSQL, and the pages in a real browser.

    python -m tests [--only sqlite|postgres|browser]... [-m MARKERS] [pytest arguments]

SQLite is what a trial runs on; locks and concurrency can be shown on PostgreSQL only, so the whole suite runs on both,
save the few tests that are marked `once`. PostgreSQL is the one that TEST_DATABASE_URL names, else a throw-away
cluster; Chromium is the one that CHROMIUM names, else one found on the machine or installed. A phase that this machine
cannot run is left out and named at the end; with CI=true that is a failure, since nobody may be watching.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

from tests import machine

# Whatever this shell says about a deployment, the tests run on settings and keys of their own.
DEPLOYMENT = {
    "ADMIN", "ALLOWED_HOSTS", "DATABASE_URL", "DEBUG", "EMAIL_FROM", "EMAIL_URL", "HSTS_SUBDOMAINS",
    "JWKS_MAX_AGE", "KEY_ENCRYPTION_KEYS", "LOG_LEVEL", "METRICS_TOKEN", "ORIGIN", "OUTBOUND_NETWORKS", "PEPPERS",
    "SECRET_KEY", "SSL_REDIRECT", "TRUSTED_PROXIES",
}  # fmt: skip
# pytest-django's live server finds static files under the names that they have in the source tree.
PLAIN_STATIC_FILES = "django.contrib.staticfiles.storage.StaticFilesStorage"
PYTEST_COLLECTED_NOTHING = 5
# Processes with a database each; who is done early takes over what waits for another.
SPREAD = ["--dist", "worksteal", "--numprocesses"]
CORES = os.cpu_count() or 1
# One more than cores where some tests wait, for minutes in all, for servers that they started.
MORE = CORES + 1
SECONDS_TO_TEAR_DOWN = 60


@contextmanager
def on_sqlite() -> Iterator[dict[str, str]]:
    yield {}


@contextmanager
def on_postgres() -> Iterator[dict[str, str]]:
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield {"DATABASE_URL": url}
        return
    with machine.postgres_cluster() as cluster:
        yield {"DATABASE_URL": cluster.url}


@contextmanager
def in_browser() -> Iterator[dict[str, str]]:
    yield {"CHROMIUM": machine.chromium()}


class Phase(NamedTuple):
    heading: str
    markers: str
    surroundings: Callable[[], AbstractContextManager[dict[str, str]]]
    processes: int


PHASES = {
    "sqlite": Phase("The suite on SQLite", "not postgres and not browser", on_sqlite, MORE),
    "postgres": Phase("The suite on PostgreSQL", "not browser and not once", on_postgres, MORE),
    "browser": Phase("The pages in a browser", "browser", in_browser, CORES),
}


class Outcome(NamedTuple):
    name: str
    word: str
    seconds: float


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    options, pytest_arguments = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="tallystick-keys-") as var_dir:
        make_keys = [sys.executable, "-m", "config.keyfiles", var_dir]
        subprocess.run(make_keys, check=True, stdout=subprocess.DEVNULL)
        Path(var_dir, "static").mkdir()  # WhiteNoise warns when there is none, and warnings are errors
        environment = {name: value for name, value in os.environ.items() if name not in DEPLOYMENT}
        environment |= {"VAR_DIR": var_dir, "STATICFILES_STORAGE": PLAIN_STATIC_FILES}
        outcomes = [
            run_phase(name, options.markers, pytest_arguments, environment)
            for name in PHASES
            if not options.only or name in options.only
        ]
    return conclude(outcomes)


def parse_arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="python -m tests", description="Run the tests.", epilog="Other arguments go to pytest."
    )
    parser.add_argument("--only", action="append", choices=PHASES, help="run this phase (repeatable)")
    parser.add_argument("-m", dest="markers", help="pytest's marker expression, narrows every phase")
    return parser.parse_known_args()


def run_phase(name: str, markers: str | None, arguments: list[str], environment: dict[str, str]) -> Outcome:
    phase = PHASES[name]
    print(f"\n=== {phase.heading} ===", flush=True)
    began = time.monotonic()
    wanted = f"({phase.markers}) and ({markers})" if markers else phase.markers
    try:
        with phase.surroundings() as found:
            code = run_pytest(["-m", wanted, *SPREAD, str(phase.processes), *arguments], environment | found)
    except machine.Missing as missing:
        word = f"left out: {missing}"
    else:
        word = verdict(code, narrowed=bool(markers or arguments))
    return Outcome(name, word, time.monotonic() - began)


def verdict(code: int, *, narrowed: bool) -> str:
    if code == 0:
        return "passed"
    if code == PYTEST_COLLECTED_NOTHING:
        return "no test selected" if narrowed else "FAILED: there is no test"
    return f"FAILED: pytest exit code {code}"


def run_pytest(arguments: list[str], environment: dict[str, str]) -> int:
    with subprocess.Popen([sys.executable, "-m", "pytest", *arguments], env=environment) as pytest:
        try:
            return pytest.wait()
        except SystemExit:
            pytest.send_signal(signal.SIGINT)
            pytest.wait(SECONDS_TO_TEAR_DOWN)
            raise
        except KeyboardInterrupt:  # which the terminal has sent to pytest as well
            pytest.wait(SECONDS_TO_TEAR_DOWN)
            raise


def conclude(outcomes: list[Outcome]) -> int:
    print("\n=== Phases ===")
    for outcome in outcomes:
        print(f"{outcome.name}: {outcome.word} ({outcome.seconds:.0f} s)")
    words = [outcome.word for outcome in outcomes]
    if any(word.startswith("FAILED") for word in words):
        return 1
    if "passed" not in words:
        print("No test ran.")
        return 1
    left_out = any(word.startswith("left out") for word in words)
    return 1 if left_out and os.environ.get("CI") == "true" else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
