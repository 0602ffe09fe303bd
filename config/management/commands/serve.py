import os

from django.core.management.base import BaseCommand

from config import serving


class Command(BaseCommand):
    help = "Serve the portal, the token endpoint and the API."

    def add_arguments(self, parser):
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument("--workers", type=int, help="processes; by default one a core")

    def handle(self, *args, **options):
        command = serving.command(host=options["host"], port=options["port"], workers=options["workers"])
        self.stdout.flush()
        # Replaces this process, so that signals reach the server itself.
        os.execve(command[0], command, serving.environment())  # noqa: S606 -- no shell
