import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from config import demo, serving
from tenants.models import Vendor

STAMP = "collected"
HOST = "127.0.0.1"
SECONDS_TO_END = 5
Process = subprocess.Popen[bytes]


class Command(BaseCommand):
    help = "Everything for a first look: keys, tables, the demo in an empty database, the server beside a worker."

    def handle(self, *args, **options):
        # Before any thread or child of ours exists, so that nobody else can have the default mode in between.
        os.umask(0o077)
        # Asking costs a tenth of migrating, also when there is nothing to migrate.
        executor = MigrationExecutor(connection)
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            call_command("migrate", verbosity=0)
        self._collect_static()
        if not Vendor.objects.exists():
            self._seed()
        self._serve()

    def _serve(self) -> NoReturn:
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        os.environ.update(serving.environment())
        server = subprocess.Popen(serving.command(host=HOST, port=_port()))  # noqa: S603 -- our own command
        children = [server]
        if _answers(server, stop):
            self.stdout.write(f"\nTallystick serves at {settings.ORIGIN}   (Ctrl-C stops it)\n")
            self.stdout.flush()
            worker = [sys.executable, str(settings.BASE_DIR / "manage.py"), "worker"]
            children.append(subprocess.Popen(worker))  # noqa: S603 -- our own command
        sys.exit(_until_one_ends(children, stop))

    def _seed(self) -> None:
        made = demo.create()
        self.stdout.write("\nDemo logins (printed this once; `make clean` starts afresh):\n\n")
        for user in made["vendor_users"] + made["users"]:
            where = user.get("tenant_slug", "vendor")
            self.stdout.write(f"  {user['email']:36} {user['password']}   {user['role']} of {where}")

    def _collect_static(self) -> None:
        """Only when a file is newer than the last time: hashing and compressing takes seconds."""
        stamp = settings.STATIC_ROOT / STAMP
        # The settings say which apps bring files of their own.
        named = [settings.BASE_DIR / "requirements.txt", settings.BASE_DIR / "config" / "settings.py"]
        sources = [*named, *Path(settings.BASE_DIR, "static").rglob("*")]
        newest = max(path.stat().st_mtime for path in sources)
        if stamp.exists() and stamp.stat().st_mtime >= newest:
            return
        call_command("collectstatic", interactive=False, verbosity=0)
        stamp.touch()


def _port() -> int:
    return int(settings.ORIGIN.rsplit(":", 1)[1]) if settings.ORIGIN.count(":") == 2 else 8000


def _answers(server: Process, stop: threading.Event) -> bool:
    """Wait until the server takes connections; False if it ended instead, having said why itself."""
    while server.poll() is None and not stop.is_set():
        try:
            socket.create_connection((HOST, _port()), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return True
    return False


def _until_one_ends(children: list[Process], stop: threading.Event) -> int:
    """Watch the programs until one ends or we are told to stop; then stop the others. The worst of their codes."""
    while not stop.wait(0.2):
        if any(child.poll() is not None for child in children):
            break
    codes = [child.poll() or 0 for child in children]
    for child in children:
        if child.poll() is None:
            child.terminate()
    for child in children:
        try:
            child.wait(timeout=SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            child.kill()
    return max(codes)
