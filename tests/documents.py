"""The code in our documents, file by file, as readers copy it."""

import re
from pathlib import Path

from django.conf import settings

# A block that is a file says so in its first line.
FILE = re.compile(r"^```(?:python|js|go)\n(?:#|//) (?P<name>\S+\.\w+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)


def files(document: str) -> dict[str, str]:
    """{name: text} of the files in a document of docs/."""
    return {found["name"]: found["text"] for found in FILE.finditer(text(document))}


def text(document: str) -> str:
    return Path(settings.BASE_DIR, "docs", document).read_text()


def rows(document: str, heading: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The cells of the table with these heads, without the marks of code."""
    lines = iter(text(document).splitlines())
    for line in lines:
        if cells(line) == heading:
            break
    next(lines)
    found = []
    for line in lines:
        if not line.startswith("|"):
            break
        found.append(cells(line))
    return found


def cells(line: str) -> tuple[str, ...]:
    return tuple(cell.strip().strip("`") for cell in line.strip("|").split("|"))
