#!/usr/bin/env python
import os
import sys
from pathlib import Path

from django.core.management import execute_from_command_line

from config import keyfiles

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    if sys.argv[1:2] == ["quickstart"]:
        # Here, because the settings refuse to load without keys.
        keyfiles.make_missing(Path(os.environ.get("VAR_DIR") or Path(__file__).resolve().parent / "var"))
    execute_from_command_line(sys.argv)
