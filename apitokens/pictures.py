"""What a picture is by its own bytes, whatever it is called: a still PNG or WebP, whole, and of which size.

Nothing is decoded. What follows the end of the picture, or a chunk that is cut or damaged, makes it none.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from struct import unpack_from

from django.utils.translation import gettext as _

PNG, WEBP = "image/png", "image/webp"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
START_OF_VP8 = b"\x9d\x01\x2a"
START_OF_VP8L = 0x2F
# In the header of an extended WebP.
IS_ANIMATED = 0x02
Chunk = tuple[bytes, bytes]


@dataclass(frozen=True)
class Picture:
    """`type` is its media type; the rest is in pixels."""

    type: str
    width: int
    height: int


class NoPicture(ValueError):
    """The text says what is wrong with it."""


def read(data: bytes) -> Picture:
    """Raises NoPicture."""
    if data.startswith(PNG_SIGNATURE):
        return _png(list(_chunks_of_png(data)))
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp(list(_chunks_of_webp(data)))
    raise NoPicture(_("This is neither a PNG nor a WebP picture."))


def _png(chunks: list[Chunk]) -> Picture:
    """PNG, third edition, sections 5.6 and 11.2."""
    kinds = [kind for kind, _ in chunks]
    if kinds[:1] != [b"IHDR"] or kinds[-1] != b"IEND" or b"IDAT" not in kinds or len(chunks[0][1]) != 13:
        raise _damaged("PNG")
    if b"acTL" in kinds:
        raise _moving()
    width, height = unpack_from(">II", chunks[0][1])
    return Picture(PNG, width, height)


def _chunks_of_png(data: bytes) -> Iterator[Chunk]:
    at = len(PNG_SIGNATURE)
    while at < len(data):
        if len(data) < at + 12:
            raise _damaged("PNG")
        length, kind = unpack_from(">I4s", data, at)
        body, end = data[at + 8 : at + 8 + length], at + 12 + length
        if len(data) < end or unpack_from(">I", data, end - 4)[0] != zlib.crc32(kind + body):
            raise _damaged("PNG")
        yield kind, body
        at = end


def _webp(chunks: list[Chunk]) -> Picture:
    """RFC 9649 section 2. An extended one says the size of its canvas; the still picture in it has just that size."""
    by_kind = dict(chunks)
    if b"ANIM" in by_kind or b"ANMF" in by_kind:
        raise _moving()
    if extended := by_kind.get(b"VP8X"):
        if len(extended) != 10:
            raise _damaged("WebP")
        if extended[0] & IS_ANIMATED:
            raise _moving()
        canvas = tuple(int.from_bytes(extended[at : at + 3], "little") + 1 for at in (4, 7))
    else:
        canvas = ()
    size = _size_in(by_kind)
    if (canvas and canvas != size) or (not canvas and len(chunks) != 1):
        raise _damaged("WebP")
    return Picture(WEBP, *size)


def _size_in(by_kind: dict[bytes, bytes]) -> tuple[int, int]:
    """RFC 6386 section 9.1 and RFC 9649 section 3.4."""
    lossy, lossless = by_kind.get(b"VP8 ", b""), by_kind.get(b"VP8L", b"")
    if len(lossy) > 10 and lossy[3:6] == START_OF_VP8:
        width, height = unpack_from("<HH", lossy, 6)
        return width & 0x3FFF, height & 0x3FFF
    if len(lossless) > 5 and lossless[0] == START_OF_VP8L:
        (bits,) = unpack_from("<I", lossless, 1)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    raise _damaged("WebP")


def _chunks_of_webp(data: bytes) -> Iterator[Chunk]:
    if unpack_from("<I", data, 4)[0] + 8 != len(data):
        raise _damaged("WebP")
    at = 12
    while at < len(data):
        if len(data) < at + 8:
            raise _damaged("WebP")
        kind, length = unpack_from("<4sI", data, at)
        # Of an odd length it is followed by one byte more.
        end = at + 8 + length + length % 2
        if len(data) < end:
            raise _damaged("WebP")
        yield kind, data[at + 8 : at + 8 + length]
        at = end


def _damaged(kind: str) -> NoPicture:
    return NoPicture(
        _("This %(kind)s picture is damaged, or something else is attached to it: save it anew.") % {"kind": kind}
    )


def _moving() -> NoPicture:
    return NoPicture(_("A logo stands still: take a picture without an animation."))
