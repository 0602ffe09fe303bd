import json

from django.core.management.base import BaseCommand

from config import demo


class Command(BaseCommand):
    help = "Make one more demo vendor, disjoint from all before, and print its logins and secrets this once."

    def add_arguments(self, parser):
        parser.add_argument("--json", action="store_true", help="print one JSON object on the last line")

    def handle(self, *args, **options):
        made = demo.create()
        if options["json"]:
            self.stdout.write(json.dumps(made))
            return
        for user in [*made["vendor_users"], *made["users"]]:
            self.stdout.write(f"  {user['email']:42} {user['password']}  {user['role']}")
