import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand

from config import demo
from tenants.models import Vendor

STAMP = "collected"


class Command(BaseCommand):
    help = "Everything for a first look: migrate, seed the demo into an empty database, serve it beside a worker."

    def handle(self, *args, **options):
        # Before any thread or child of ours exists, so that nobody else can have the default mode in between.
        os.umask(0o077)
        call_command("migrate", verbosity=0)
        self._collect_static()
        if not Vendor.objects.exists():
            self._seed()
        self.stdout.write(f"\nTallystick serves at {settings.ORIGIN}   (Ctrl-C stops it)\n")
        self.stdout.flush()
        manage = [sys.executable, str(settings.BASE_DIR / "manage.py")]
        sys.exit(_together([*manage, "serve", f"--port={_port()}"], [*manage, "worker"]))

    def _seed(self) -> None:
        made = demo.create()
        self.stdout.write("\nDemo logins (printed this once; `make clean` starts afresh):\n\n")
        for user in made["vendor_users"] + made["users"]:
            where = user.get("tenant_slug", "vendor")
            self.stdout.write(f"  {user['email']:36} {user['password']}   {user['role']} of {where}")

    def _collect_static(self) -> None:
        """Only when a file is newer than the last time: hashing and compressing takes seconds."""
        stamp = settings.STATIC_ROOT / STAMP
        sources = [Path(settings.BASE_DIR, "requirements.txt"), *Path(settings.BASE_DIR, "static").rglob("*")]
        newest = max(path.stat().st_mtime for path in sources)
        if stamp.exists() and stamp.stat().st_mtime >= newest:
            return
        call_command("collectstatic", interactive=False, verbosity=0)
        stamp.touch()


def _port() -> int:
    return int(settings.ORIGIN.rsplit(":", 1)[1]) if settings.ORIGIN.count(":") == 2 else 8000


def _together(*commands: list[str]) -> int:
    """Run the programs side by side until one ends or we are told to stop; then stop the others."""
    children = [subprocess.Popen(command) for command in commands]  # noqa: S603 -- our own commands
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    while not ended.wait(0.2):
        if any(child.poll() is not None for child in children):
            break
    codes = [child.poll() or 0 for child in children]
    for child in children:
        if child.poll() is None:
            child.terminate()
    for child in children:
        try:
            child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            child.kill()
    return max(codes)
