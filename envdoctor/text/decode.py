"""From bytes to text: byte order marks, UTF-16 of redirected PowerShell output, UTF-8, 8-bit fallbacks."""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING, BinaryIO

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BYTES = 64 * 1024 * 1024
"""`decode` refuses more than this (bytes); longer logs go through `decode_lines`."""

_SNIFF = 64 * 1024  # how much of the start decides about the encoding
_CHUNK = 1024 * 1024  # how much of a stream is held at once
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16: its mark begins with the one of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_MULTIBYTE = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_STRAY = re.compile(rb"[\x80-\xff]")


class TextTooLargeError(ValueError):
    """The text is longer than the limit (both in bytes) and was not decoded."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"the text has {size} bytes, more than the {limit} that are read")
        self.size = size
        self.limit = limit


class Decoded(msgspec.Struct, frozen=True):
    """A text and how it was read; `replaced` counts what stood for no character and is U+FFFD now."""

    text: str
    encoding: str
    replaced: int


def decode(data: bytes, *, limit: int = MAX_BYTES) -> Decoded:
    """Decode a pasted text; never fails on content, only on size (TextTooLargeError).

    NULs are dropped: they come from UTF-16 appended to an 8-bit file, whose ASCII is readable without them.
    """
    if len(data) > limit:
        raise TextTooLargeError(len(data), limit)
    encoding, skip = _encoding_of(data)
    body = data[skip:]
    try:
        text = body.decode(encoding)
        replaced = 0
    except UnicodeDecodeError:
        text = body.decode(encoding, "replace")
        # What the sender's own program had replaced already is not counted as ours.
        replaced = text.count("\ufffd") - body.decode(encoding, "ignore").count("\ufffd")
    return Decoded(text.replace("\0", ""), encoding, replaced)


def decode_lines(stream: BinaryIO) -> Iterator[str]:
    """Yield the lines of a binary stream of any length, without their line feeds, in bounded memory.

    The encoding is decided by the first 64 KiB; a line longer than 1 MiB is given in pieces, so that a file
    without line feeds does not fill the memory.
    """
    head = stream.read(_SNIFF)
    encoding, skip = _encoding_of(head, whole=False)
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    rest = ""
    chunk = head[skip:]
    while chunk:
        *lines, rest = (rest + decoder.decode(chunk).replace("\0", "")).split("\n")
        yield from lines
        if len(rest) > _CHUNK:
            yield rest
            rest = ""
        chunk = stream.read(_CHUNK)
    rest += decoder.decode(b"", final=True)
    if rest:
        yield rest


def _encoding_of(data: bytes, *, whole: bool = True) -> tuple[str, int]:
    """Return the codec and the length of the byte order mark; `whole` says that `data` is not cut off."""
    for mark, name in _MARKS:
        if data.startswith(mark):
            return name, len(mark)
    wide = _wide(data[:_SNIFF])
    if wide:
        return wide, 0
    return _narrow(data, whole=whole), 0


def _wide(head: bytes) -> str | None:
    """Recognise UTF-16 without a mark: nearly every second byte of mostly Latin text is NUL."""
    pairs = len(head) // 2
    if not pairs:
        return None
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if odd > 0.6 * pairs and even < 0.1 * pairs:
        return "utf-16-le"
    if even > 0.6 * pairs and odd < 0.1 * pairs:
        return "utf-16-be"
    return None


def _narrow(data: bytes, *, whole: bool) -> str:
    """Choose between UTF-8 (also a torn one) and the Western 8-bit encodings."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        if not whole and error.start >= len(data) - 3:
            return "utf-8"  # a character cut by the end of what was read
    else:
        return "utf-8"
    good = len(_MULTIBYTE.findall(data))
    stray = len(_STRAY.findall(_MULTIBYTE.sub(b"", data)))
    if good > stray or (good and good == stray):
        return "utf-8"  # a few torn characters in a UTF-8 log, for instance from a cut in the middle
    try:
        data.decode("cp1252")
    except UnicodeDecodeError:
        return "latin-1"
    return "cp1252"
