"""The three secrets an installation cannot do without, kept outside its database.

Each comes from an environment variable or, failing that, from a file of the same meaning that only its owner may
read. `python -m config.keyfiles DIR` makes the missing files; it never replaces one. A rotation adds to a file and
takes nothing out of it. This module is imported before Django's settings exist, so it knows nothing of Django.
"""

import base64
import os
import secrets
import sys
from pathlib import Path

from cryptography.fernet import Fernet, MultiFernet

MAKERS = {
    "secret-key": lambda: secrets.token_urlsafe(50),
    "peppers": lambda: new_pepper(1),
    "key-encryption-keys": lambda: new_encryption_key(),
    "metrics-token": lambda: secrets.token_urlsafe(24),
}


# What the column beside each digest can hold.
LARGEST_PEPPER_NUMBER = 32_767


class KeyMissing(Exception):
    """A secret that the installation needs is neither in the environment nor in its file."""


class KeyUnusable(Exception):
    """A secret is present, but not of the form or the strength it must have."""


def new_pepper(number: int) -> str:
    return f"{number}:{base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()}"


def new_encryption_key() -> str:
    return Fernet.generate_key().decode()


def make_missing(folder: Path) -> list[str]:
    """Create every missing key file in `folder` with mode 0600; return the names made."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name, make in MAKERS.items():
        try:
            # O_EXCL, so that two processes started together cannot replace each other's key.
            handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            continue
        with os.fdopen(handle, "w") as file:
            file.write(make() + "\n")
        made.append(name)
    return made


def read(name: str, variable: str, folder: Path) -> str:
    """The secret from the environment variable, else from the file; raises KeyMissing."""
    if value := os.environ.get(variable, "").strip():
        return value
    path = folder / name
    if not path.is_file():
        raise KeyMissing(
            f"No {name}: set the environment variable {variable}, or run `python -m config.keyfiles {folder}`."
        )
    if value := path.read_text().strip():
        return value
    raise KeyMissing(f"{path} is empty: restore it from your backup.")


def is_set(variable: str) -> bool:
    """Whether the secret comes from the environment, which only whoever starts the process can change."""
    return bool(os.environ.get(variable, "").strip())


def add_pepper(folder: Path) -> int:
    """Put a new pepper into the file, under the next number, and return that; raises KeyMissing and KeyUnusable."""
    text = read("peppers", "PEPPERS", folder)
    number = max(parse_peppers(text)) + 1
    parse_peppers(added := f"{text}\n{new_pepper(number)}\n")
    _replace(folder / "peppers", added)
    return number


def add_encryption_key(folder: Path) -> None:
    """Put a new key-encryption key into the file, before the others; raises KeyMissing and KeyUnusable."""
    text = read("key-encryption-keys", "KEY_ENCRYPTION_KEYS", folder)
    parse_fernet_keys(added := f"{new_encryption_key()},{text}\n")
    _replace(folder / "key-encryption-keys", added)


def _replace(path: Path, text: str) -> None:
    """The whole file at once, mode 0600: whoever reads it meanwhile, and a crash, find the old one or the new one."""
    beside = path.with_name(f".{path.name}.new")
    try:
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise KeyUnusable(f"Somebody is changing {path}, or was interrupted: then remove {beside}.") from error
    with os.fdopen(handle, "w") as file:
        # Written by root, it is still for who runs the server.
        os.fchown(handle, path.stat().st_uid, path.stat().st_gid)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def parse_peppers(text: str) -> dict[int, bytes]:
    """`1:<base64url>,2:<base64url>` (or one a line) as {number: at least 32 bytes}; raises KeyUnusable.

    The highest number is the one new secrets are digested with.
    """
    peppers: dict[int, bytes] = {}
    for part in text.replace("\n", ",").split(","):
        if not part.strip():
            continue
        number, _, value = part.strip().partition(":")
        try:
            pepper = base64.urlsafe_b64decode(value)
            peppers[int(number)] = pepper
        except ValueError as error:
            raise KeyUnusable("PEPPERS must read `1:<base64url>`, comma-separated.") from error
        if not 1 <= int(number) <= LARGEST_PEPPER_NUMBER:
            raise KeyUnusable(f"Peppers are numbered from 1 to {LARGEST_PEPPER_NUMBER}, not {number}.")
        if len(pepper) < 32:
            raise KeyUnusable(f"Pepper {number} has {len(pepper)} bytes; it needs at least 32.")
    if not peppers:
        raise KeyUnusable("PEPPERS holds no pepper.")
    return peppers


def parse_fernet_keys(text: str) -> list[str]:
    """Comma-separated Fernet keys, the first of which encrypts; raises KeyUnusable."""
    keys = [key.strip() for key in text.split(",") if key.strip()]
    try:
        MultiFernet([Fernet(key) for key in keys])
    except ValueError as error:
        raise KeyUnusable("KEY_ENCRYPTION_KEYS must be Fernet keys, comma-separated.") from error
    return keys


if __name__ == "__main__":
    for name in make_missing(Path(sys.argv[1])):
        print(f"made {name}")  # noqa: T201 -- a command-line script speaks to its terminal
