import os
import shutil
import sys

from django.conf import settings
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Serve the portal, the token endpoint and the API: WSGI under granian, a worker process a core."

    def add_arguments(self, parser):
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)

    def handle(self, *args, **options):
        # Workers add their counters up in files; what a former run counted is not theirs.
        counters = settings.VAR_DIR / "metrics"
        shutil.rmtree(counters, ignore_errors=True)
        counters.mkdir(parents=True)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(counters)
        command = [
            "granian",
            "config.wsgi:application",
            "--interface=wsgi",
            "--no-ws",
            "--blocking-threads=2",
            "--log-level=warning",
            f"--host={options['host']}",
            f"--port={options['port']}",
            f"--workers={options['workers']}",
        ]
        self.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-m", *command])  # noqa: S606 -- no shell; replaces this process
