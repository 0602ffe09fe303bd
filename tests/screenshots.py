"""Pictures of every page: `make screenshots` (IN=de) writes them, light and dark, narrow and wide, to screenshots/.

They are for looking at. Those that the documents show are copied from there by hand, when a page has changed.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests import machine

FOLDER = Path("screenshots")
WIDTHS = (360, 1280)
SCHEMES = ("light", "dark")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.screenshots", description="Draw every page.")
    parser.add_argument("--language", default="en-gb", help="en-gb, de or ar")
    parser.add_argument("names", nargs="*", help="only pages whose name has one of these in it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tallystick-keys-") as var_dir:
        subprocess.run([sys.executable, "-m", "config.keyfiles", var_dir], check=True, stdout=subprocess.DEVNULL)
        os.environ |= {"VAR_DIR": var_dir, "DJANGO_SETTINGS_MODULE": "config.settings"}
        draw_all(options.language, options.names)


def draw_all(language: str, names: list[str]) -> None:
    import django

    django.setup()
    from tests.server import running_server  # what it imports wants settings, which want the keys
    from tests.tour import Tour, stops

    folder = FOLDER / language
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with running_server() as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=machine.chromium(), args=["--no-sandbox", "--disable-gpu"])
        tour = Tour(server)
        tour.prepare()
        for stop in stops(tour):
            if names and not any(name in stop.name for name in names):
                continue
            with tour.as_(stop.who, browser, locale=language, reduced_motion="reduce") as context:
                page = context.new_page()
                tour.go(stop, page)
                draw(page, folder, stop.name)
                print(stop.name, flush=True)
        browser.close()


def draw(page: Page, folder: Path, name: str) -> None:
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            page.screenshot(path=folder / f"{name}-{scheme}-{width}.png", full_page=True)


if __name__ == "__main__":
    main()
