"""Decoding of pasted bytes: what each kind of file is read as."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings, strategies as st

from envdoctor.text.decode import Decoded, TextTooLargeError, decode, decode_lines

SAMPLE = "torch 2.5 \u2013 naïve ±3 µs\nsecond line ✓\n"


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (SAMPLE.encode(), "utf-8"),
        (b"\xef\xbb\xbf" + SAMPLE.encode(), "utf-8"),
        (b"\xff\xfe" + SAMPLE.encode("utf-16-le"), "utf-16-le"),
        (b"\xfe\xff" + SAMPLE.encode("utf-16-be"), "utf-16-be"),
        (SAMPLE.encode("utf-16-le"), "utf-16-le"),
        (SAMPLE.encode("utf-16-be"), "utf-16-be"),
        (b"\xff\xfe\0\0" + SAMPLE.encode("utf-32-le"), "utf-32-le"),
    ],
)
def test_unicode_is_read_whole(data: bytes, encoding: str) -> None:
    assert decode(data) == Decoded(SAMPLE, encoding, 0)


def test_plain_ascii_and_nothing() -> None:
    assert decode(b"driver 550.54\n") == Decoded("driver 550.54\n", "utf-8", 0)
    assert decode(b"") == Decoded("", "utf-8", 0)


def test_western_bytes() -> None:
    assert decode("Größe: 3 µm, 5 €".encode("cp1252")) == Decoded("Größe: 3 µm, 5 €", "cp1252", 0)
    assert decode(b"caf\xe9 \x81") == Decoded("café \x81", "latin-1", 0)


def test_a_torn_utf8_log_stays_utf8() -> None:
    data = ("é" * 20).encode()[1:]
    decoded = decode(data)
    assert decoded.encoding == "utf-8"
    assert decoded.replaced == 1
    assert decoded.text.endswith("é" * 19)


def test_replacements_of_the_sender_are_not_ours() -> None:
    assert decode("lost \ufffd already".encode()).replaced == 0


def test_utf16_appended_to_an_8_bit_file_is_readable() -> None:
    data = b"first run\r\n" * 40 + "RuntimeError: late\r\n".encode("utf-16-le")
    assert "RuntimeError: late" in decode(data).text


def test_too_large_is_refused_by_type() -> None:
    with pytest.raises(TextTooLargeError) as refused:
        decode(b"x" * 11, limit=10)
    assert (refused.value.size, refused.value.limit) == (11, 10)


@settings(deadline=None)  # the machine may be busy
@given(st.binary(max_size=400))
def test_never_fails_and_never_keeps_nuls(data: bytes) -> None:
    decoded = decode(data)
    assert "\0" not in decoded.text
    assert decoded.replaced >= 0


@settings(deadline=None)  # the machine may be busy
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_utf8_round_trip(text: str) -> None:
    data = b"\xef\xbb\xbf" + text.encode()
    assert decode(data) == Decoded(text, "utf-8", 0)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "cp1252"])
def test_stream_gives_the_lines_of_the_whole(encoding: str) -> None:
    text = "".join(f"line {i} é\n" for i in range(40_000)) + "no line feed at the end"
    data = text.encode(encoding)
    assert list(decode_lines(io.BytesIO(data))) == decode(data).text.split("\n")


def test_stream_with_a_character_across_the_first_read() -> None:
    text = "x" * (64 * 1024 - 1) + "é\n"
    assert list(decode_lines(io.BytesIO(text.encode()))) == [text[:-1]]


def test_stream_without_line_feeds_comes_in_pieces() -> None:
    pieces = list(decode_lines(io.BytesIO(b"a" * 5_000_000)))
    assert len(pieces) > 1
    assert "".join(pieces) == "a" * 5_000_000
