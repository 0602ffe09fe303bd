"""The catalogs of the pages' words: `python -m tests.catalogs` brings them up to date, `--check` compares with code.

Babel reads and writes them, so that no gettext need be on the machine. Beside each .po lies its compiled .mo: a clone
runs without compiling anything.
"""

import argparse
import io
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from babel.messages import Catalog, Message
from babel.messages.extract import extract_python
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po
from django.utils.translation.template import templatize

ROOT = Path(__file__).resolve().parent.parent
LOCALE = ROOT / "locale"
# As Django's own catalogs count, with which ours are merged.
PLURAL_FORMS = {
    "de": "nplurals=2; plural=(n != 1);",
    "ar": (
        "nplurals=6; plural=n==0 ? 0 : n==1 ? 1 : n==2 ? 2 : "
        "n%100>=3 && n%100<=10 ? 3 : n%100>=11 && n%100<=99 ? 4 : 5;"
    ),
}
LANGUAGES = tuple(PLURAL_FORMS)
CODE = ("accounts", "apitokens", "audit", "config", "console", "tenants")
CHARSET = "UTF-8"
KEYWORDS = {
    "_": None,
    "gettext": None,
    "gettext_lazy": None,
    "gettext_noop": None,
    "later": (1,),
    "ngettext": (1, 2),
    "ngettext_lazy": (1, 2),
    "pgettext": ((1, "c"), 2),
    "pgettext_lazy": ((1, "c"), 2),
    "npgettext": ((1, "c"), 2, 3),
    "npgettext_lazy": ((1, "c"), 2, 3),
}
# What a translation must have as often as the text has it: %(name)s, {name}, tags and entities.
FIXED = re.compile(r"%\(\w+\)[sd]|(?<!%)%[sd]|\{\w*\}|<[^>]+>|&\w+;")


class Undated(Catalog):
    """Without the dates and names that would change the files though no word of them has changed."""

    @property
    def mime_headers(self) -> list[tuple[str, str]]:
        return [
            ("Language", str(self.locale_identifier)),
            ("MIME-Version", "1.0"),
            ("Content-Type", f"text/plain; charset={CHARSET}"),
            ("Content-Transfer-Encoding", "8bit"),
            ("Plural-Forms", self.plural_forms),
        ]

    @property
    def plural_forms(self) -> str:
        return PLURAL_FORMS[str(self.locale_identifier)]


def extracted() -> Catalog:
    """Every text that the code and the templates hand to gettext, with the files it stands in."""
    catalog = Catalog(charset=CHARSET)
    for path in sources():
        text = path.read_text(encoding="utf-8")
        if path.suffix != ".py":
            # Indented as a template is, it would be no Python.
            text = "\n".join(line.lstrip() for line in templatize(text).splitlines())
        for _, function, messages, comments in extract_python(
            io.BytesIO(text.encode()), KEYWORDS.keys(), ("Translators:",), {"encoding": "utf-8"}
        ):
            context, ids = _texts(function, messages)
            if ids is not None:
                where = [(path.relative_to(ROOT).as_posix(), 0)]
                catalog.add(ids, locations=where, auto_comments=comments, context=context)
    return catalog


def sources() -> Iterator[Path]:
    for folder in CODE:
        yield from (path for path in sorted((ROOT / folder).rglob("*.py")) if "migrations" not in path.parts)
    for suffix in ("html", "txt"):
        yield from sorted((ROOT / "templates").rglob(f"*.{suffix}"))


def _texts(function: str, messages: object) -> tuple[str | None, str | tuple[str, ...] | None]:
    """The context and the text, or the singular and the plural; no text where it is not written out in the code."""
    spec = KEYWORDS[function] or (1,)
    given = list(messages) if isinstance(messages, tuple) else [messages]
    context, ids = None, []
    for part in spec:
        index = part[0] if isinstance(part, tuple) else part
        text = given[index - 1] if len(given) >= index else None
        if not text:
            return None, None
        if isinstance(part, tuple):
            context = text
        else:
            ids.append(text)
    return context, tuple(ids) if len(ids) > 1 else ids[0]


def read(language: str) -> Catalog:
    path = _path(language, "po")
    catalog = Undated(locale=language, charset=CHARSET, fuzzy=False, header_comment="# The words of the pages.")
    if path.exists():
        with path.open("rb") as file:
            stored = read_po(file, locale=language)
        for message in stored:
            if message.id:
                catalog[message.id] = message
        catalog.obsolete = stored.obsolete
    return catalog


def po(catalog: Catalog) -> bytes:
    file = io.BytesIO()
    write_po(file, catalog, width=120, include_lineno=False, sort_by_file=True, omit_header=False)
    return file.getvalue()


def mo(catalog: Catalog) -> bytes:
    file = io.BytesIO()
    write_mo(file, catalog)
    return file.getvalue()


def _path(language: str, suffix: str) -> Path:
    return LOCALE / language / "LC_MESSAGES" / f"django.{suffix}"


def update() -> None:
    """New texts come in empty, changed ones are marked fuzzy for a translator, and those of no use go."""
    template = extracted()
    for language in LANGUAGES:
        catalog = read(language)
        catalog.update(template, no_fuzzy_matching=False)
        catalog.obsolete.clear()
        path = _path(language, "po")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(po(catalog))
        _path(language, "mo").write_bytes(mo(catalog))
        empty = sum(not _is_translated(message) for message in catalog if message.id)
        print(f"{language}: {len(catalog)} texts, {empty} to be translated")


def faults(language: str) -> list[str]:
    """What keeps this catalog from being a whole and right translation of what the pages say now."""
    template, catalog = extracted(), read(language)
    wanted, there = (
        {(message.context, _key(message)) for message in each if message.id} for each in (template, catalog)
    )
    found = [f"missing: {text!r}" for _, text in sorted(wanted - there, key=str)]
    found += [f"no longer said: {text!r}" for _, text in sorted(there - wanted, key=str)]
    found += [f"no longer said: {_key(message)!r}" for message in catalog.obsolete.values()]
    for message in catalog:
        if message.id:
            found += [f"{fault}: {_key(message)!r}" for fault in _faults(message, catalog)]
    if not found and _path(language, "mo").read_bytes() != mo(catalog):
        found.append("compiled from something else than its .po")
    return found


def _key(message: Message) -> str:
    return message.id[0] if isinstance(message.id, tuple | list) else message.id


def _faults(message: Message, catalog: Catalog) -> Iterator[str]:
    if message.fuzzy:
        yield "fuzzy"
    if not _is_translated(message):
        yield "not translated"
        return
    if not message.pluralizable:
        if _fixed(message.id) != _fixed(message.string):
            yield "other placeholders or tags"
        if _edges(message.id) != _edges(message.string):
            yield "other line breaks at its ends"
        return
    if len(message.string) != catalog.num_plurals:
        yield f"{catalog.num_plurals} plural forms are needed"
    for form in message.string:
        if _fixed(form) not in [_fixed(english) for english in message.id]:
            yield "other placeholders or tags"


def _is_translated(message: Message) -> bool:
    return all(message.string) if isinstance(message.string, tuple | list) else bool(message.string)


def _fixed(text: str) -> Counter[str]:
    return Counter(FIXED.findall(text))


def _edges(text: str) -> tuple[bool, bool]:
    return text.startswith("\n"), text.endswith("\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.catalogs", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; fail where a catalog is not whole and right"
    )
    if not parser.parse_args().check:
        update()
        return
    found = [f"{language}: {fault}" for language in LANGUAGES for fault in faults(language)]
    if found:
        print(*found, sep="\n")
        sys.exit(f"{len(found)} faults: translate what is missing, then `make messages`")


if __name__ == "__main__":
    main()
