"""How the product is served: WSGI under granian, one worker process a core."""

import os
import shutil
import sys

from django.conf import settings


def command(*, host: str, port: int, workers: int | None = None) -> list[str]:
    """The program and its arguments. Two threads a worker: one works while the other waits for the database."""
    return [
        sys.executable,
        "-m",
        "granian",
        "config.wsgi:application",
        "--interface=wsgi",
        "--no-ws",
        "--blocking-threads=2",
        # A worker told to stop while it still starts may not hear it; one that ends writes what it has gathered first.
        "--workers-kill-timeout=4",
        "--log-level=warning",
        f"--host={host}",
        f"--port={port}",
        f"--workers={workers or os.cpu_count() or 1}",
    ]


def environment() -> dict[str, str]:
    """This process's environment, with a fresh folder in which the workers add their counters up."""
    counters = settings.VAR_DIR / "metrics"
    shutil.rmtree(counters, ignore_errors=True)
    counters.mkdir(parents=True)
    return {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(counters)}
