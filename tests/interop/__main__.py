"""What `make interop` runs: clients and verifiers from npm, unmodified, against the server as `make run` starts it.

    python -m tests.interop [test files]

The tests are plain Node. They find the server, and who its vendor's backend is, in INTEROP.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tests.server import Server, running_server

HERE = Path(__file__).resolve().parent
OLDEST = 20


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if missing := what_is_missing():
        print(missing, file=sys.stderr)
        return 1
    if failed := subprocess.run(["npm", "ci", "--loglevel=error"], cwd=HERE).returncode:
        return failed
    with running_server() as server:
        found = os.environ | {"INTEROP": json.dumps(world(server))}
        return subprocess.run(["node", "--test", *sys.argv[1:]], cwd=HERE, env=found).returncode


def what_is_missing() -> str:
    wanted = f"make interop needs Node {OLDEST} or newer, with npm, in PATH"
    if not shutil.which("node") or not shutil.which("npm"):
        return f"{wanted}."
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    is_old = int(version.removeprefix("v").split(".")[0]) < OLDEST
    return f"{wanted}; this is {version}." if is_old else ""


def world(server: Server) -> dict[str, object]:
    """The demo's production environment, its backend, and one of its tenants."""
    environment, backend = server.demo["environments"][0], server.demo["environment_tokens"][0]
    return {
        "origin": server.origin,
        "issuer": environment["issuer"],
        "audience": environment["audience"],
        "environment": environment["slug"],
        "backend": backend,
        "tenant": server.demo["tenants"][0],
    }


if __name__ == "__main__":
    sys.exit(main())
