"""What `make mutants` runs: each rule of the design turned off in turn, and the suite that must notice.

    python -m tests.mutants [R3 R4 …]

Each `R<number>….patch` beside this file breaks one rule, in a copy of the tree. Its lines before the diff say in words
what it breaks, and after `Shown by:` the test files that should see it first; the rest of the suite follows only if
those stay green. A mutant that outlives the whole suite is a failure, and so is a patch that no longer applies.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
RULES = [f"R{number}" for number in range(1, 14)]
QUICK = ["-q", "-x", "--no-header", "-p", "no:cacheprovider"]
# Some rules are shown in the served product alone; but the whole suite, to find out that nobody notices, goes without.
HINTED, WHOLE = "not postgres and not browser", "not postgres and not browser and not process"
SHOWN_BY = "Shown by:"
TESTS_FAILED, NOTHING_COLLECTED = 1, 5
# Of pytest's summary; a parameter's id may have spaces.
FAILED = re.compile(r"^(?:FAILED|ERROR) (tests/.+?)(?: - .*)?$", re.MULTILINE)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description="Break each rule; the tests must see.")
    parser.add_argument("rules", nargs="*", choices=[*RULES, []], help="only these")
    wanted = parser.parse_args().rules or RULES
    patches = {rule: sorted(HERE.glob(f"{rule}-*.patch")) for rule in wanted}
    unbroken = [rule for rule, found in patches.items() if not found]
    survivors = [patch.stem for found in patches.values() for patch in found if not is_killed(patch)]
    for rule in unbroken:
        print(f"{rule}: no patch turns it off")
    print(f"\n{len(survivors)} survived: {', '.join(survivors)}" if survivors else "\nEvery mutant was killed.")
    return 1 if survivors or unbroken else 0


def is_killed(patch: Path) -> bool:
    """Whether a test fails with the rule turned off, and passes with it; SystemExit when the patch does not apply."""
    hinted = patch.read_text().partition(SHOWN_BY)[2].partition("\n")[0].split()
    with tempfile.TemporaryDirectory(prefix="tallystick-mutant-") as name:
        whole, broken = copy_of_tree(Path(name) / "whole"), copy_of_tree(Path(name) / "broken")
        if subprocess.run(["git", "apply", "--whitespace=nowarn", patch], cwd=broken).returncode:
            sys.exit(f"{patch.name} no longer applies: make it again from the code as it is.")
        began = time.monotonic()
        killer = first_red(broken, hinted, HINTED) or first_red(broken, ["tests"], WHOLE)
        if killer and first_red(whole, [killer], HINTED):
            sys.exit(f"{killer} fails without any mutant: mend it first.")
    print(
        f"{patch.stem}: {f'killed by {killer}' if killer else 'SURVIVED'} ({time.monotonic() - began:.0f} s)",
        flush=True,
    )
    return killer is not None


def copy_of_tree(into: Path) -> Path:
    """The files that git knows or would add, with keys of its own."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for path in filter(None, listed.stdout.split("\0")):
        if (ROOT / path).is_file():
            (into / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, into / path)
    subprocess.run(
        [sys.executable, "-m", "config.keyfiles", str(into / "var")], cwd=into, check=True, stdout=subprocess.DEVNULL
    )
    (into / "var" / "static").mkdir(exist_ok=True)
    return into


def first_red(tree: Path, tests: list[str], markers: str) -> str | None:
    """The first test that fails; raises SystemExit for a suite that can't even be collected, which shows nothing."""
    storage = "django.contrib.staticfiles.storage.StaticFilesStorage"
    environment = {**os.environ, "VAR_DIR": str(tree / "var"), "STATICFILES_STORAGE": storage, "LOG_LEVEL": "ERROR"}
    environment.pop("DATABASE_URL", None)
    command = [sys.executable, "-m", "pytest", *QUICK, "-m", markers, *tests]
    ran = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    if ran.returncode == TESTS_FAILED and (failed := FAILED.findall(ran.stdout)):
        return failed[0]
    if ran.returncode not in {0, NOTHING_COLLECTED}:
        sys.exit(f"The tests can't run in the mutant's tree:\n{ran.stdout[-4000:]}{ran.stderr[-2000:]}")
    return None


if __name__ == "__main__":
    sys.exit(main())
