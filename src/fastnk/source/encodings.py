"""How a backup's text is encoded, and the same text in UTF-8."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence

from fastnk.errors import UsageError
from fastnk.source.compression import Chunks, peek

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_FIRST_TWO = re.compile(rb"[^\0](?:[^\0]|(?P<zero>\0)[^\0](?:\0|\Z))")
"""Two in a row, with no zeros around them but those of a two-byte encoding: a broken disk gives
zeros, too."""
_SPELLINGS = {"utf-8-sig": "utf-8", "utf_8": "utf-8", "iso8859-1": "latin-1"}
RECORD_MEMBER = rb'"(?:model|pk|fields|natural_key)"'
_OTHER_MEMBERS = rb'(?:"[^"\\]{1,64}"\s*:\s*(?:"(?:[^"\\]|\\.){0,256}"|[-+.\w]{1,64})\s*,\s*){1,4}'
RECORD_START = re.compile(
    rb"\{\s*(?:"
    + RECORD_MEMBER
    + rb'\s*:|"references"\s*:\s*\{|'
    + _OTHER_MEMBERS
    + rb'"model"\s*:\s*"[^"\\.]+\.[^"\\]+"(?=[^{}]{0,512}"fields"\s*:\s*\{))'
)
"""References come first where a conversion has put them in front of `fields` that did, and members
of which nobody knows what they mean may be in front of the others."""
_TYPOGRAPHY = bytes.fromhex(
    "80 82 84 85 89 8b 91 92 93 94 96 97 9b a0 a1 a3 a7 ab b0 b2 b3 b4 b7 bb bc bd be bf d7 f7"
)
"""Punctuation in cp1252: the euro sign, quotes, dashes and the like."""
_LEGACY = bytes(
    byte
    for byte in range(0x80, 0xFF)  # ÿ begins no word, and is what a broken disk gives
    if byte in _TYPOGRAPHY or bytes([byte]).decode("cp1252", "ignore").isalpha()
)

_DECLARED = re.compile(rb"""\s*<\?xml\s[^>]*?\bencoding\s*=\s*["']([\w.:-]+)""")
_EVERY_BYTE = bytes(range(256)) + rb"\u0061"


class Encoding:
    """An encoding and how many bytes its byte order mark takes."""

    def __init__(self, name: str, mark: int = 0) -> None:
        self.name = name
        self.mark = mark

    @property
    def is_plain(self) -> bool:
        return self.name == "utf-8" and not self.mark

    @property
    def errors(self) -> str:
        """How its codec lets pass what is wrong, so that nothing is lost on the way to UTF-8."""
        return "surrogatepass" if self.name.startswith("utf-") else "surrogateescape"

    def __str__(self) -> str:
        return self.name + (" with a byte order mark" if self.mark else "")


def named(name: str | None) -> str | None:
    """The usual spelling of an encoding. Raises `UsageError` for one that is not known."""
    if name is None:
        return None
    try:
        known = codecs.lookup(name).name
        "[".encode(known)
    except (LookupError, UnicodeError):
        raise UsageError(f'no encoding "{name}"', remedy="utf-8, utf-16, cp1252, latin-1") from None
    return _SPELLINGS.get(known, known)


def encoding_of(head: bytes, wanted: str | None) -> Encoding:
    """The encoding of a file that begins with `head`: by its byte order mark, by the zeros that
    two-byte encodings leave between ASCII characters, or as it is wanted."""
    for mark, name in _MARKS:
        if head.startswith(mark) and (wanted is None or name.startswith(wanted)):
            return Encoding(name, len(mark))
    if wanted is not None:
        return Encoding({"utf-16": "utf-16-le", "utf-32": "utf-32-le"}.get(wanted, wanted))
    two = _FIRST_TWO.search(head)
    if two and two["zero"]:
        at = two.start() % 2  # where the first one of all must stand, too
        if head[at] and not head[1 - at]:
            return Encoding("utf-16-be" if at else "utf-16-le")
    return Encoding("utf-8")


def declared_in_xml(head: bytes) -> Encoding | None:
    """The encoding that a file in XML declares, if it is one of those in which a byte is a
    character: any other shows."""
    declared = _DECLARED.match(head)
    try:
        name = named(declared[1].decode()) if declared else None
    except UsageError:
        return None
    if name is None or len(_EVERY_BYTE.decode(name, "replace")) != len(_EVERY_BYTE):
        return None
    return Encoding(name)


def in_utf8(chunks: Chunks, encoding: Encoding) -> Chunks:
    """The text in UTF-8. What is wrong in it is wrong there, too, so that it is found there."""
    _, chunks = peek(chunks, encoding.mark)
    skipped = encoding.mark
    decoder = codecs.getincrementaldecoder(encoding.name)(encoding.errors)
    for chunk in chunks:
        rest, skipped = chunk[skipped:], max(0, skipped - len(chunk))
        text = rest if encoding.name == "utf-8" else _utf8(decoder, rest, False)
        if text:
            yield text
    if encoding.name != "utf-8" and (rest := _utf8(decoder, b"", True)):
        yield rest


def head_in_utf8(head: bytes, encoding: Encoding) -> bytes:
    """The same of the beginning of a file, as far as it goes."""
    return b"".join(in_utf8(iter([head]), encoding))


def _utf8(decoder: codecs.IncrementalDecoder, chunk: bytes, final: bool) -> bytes:
    try:
        return decoder.decode(chunk, final).encode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return b"\xff"


def original_offsets(chunks: Chunks, encoding: Encoding, offsets: Sequence[int]) -> list[int]:
    """Where in the file the bytes are that stand at these ascending offsets of its text in
    UTF-8."""
    if encoding.name == "utf-8":
        return [encoding.mark + offset for offset in offsets]
    found: list[int] = []
    before, done = encoding.mark, 0
    for text in in_utf8(chunks, encoding):
        at = 0
        while len(found) < len(offsets) and offsets[len(found)] <= done + len(text):
            end = _character_start(text, offsets[len(found)] - done)
            before += _original_length(text[at:end], encoding)
            at = max(at, end)
            found.append(before)
        if len(found) == len(offsets):
            break
        before += _original_length(text[at:], encoding)
        done += len(text)
    return found + [before] * (len(offsets) - len(found))


def _character_start(text: bytes, at: int) -> int:
    while 0 < at < len(text) and text[at] & 0xC0 == 0x80:
        at -= 1
    return at


def _original_length(text: bytes, encoding: Encoding) -> int:
    characters = text.replace(b"\xff", b"").decode("utf-8", "surrogatepass")  # a cut-off one
    return len(characters.encode(encoding.name, encoding.errors))


def legacy_encoding(chunks: Chunks) -> str | None:
    """The one-byte encoding that all of a text which is not UTF-8 fits, or `None`.

    A text with one character that is UTF-8 is damaged UTF-8, and so is one with bytes that no
    text has. One that has more letters beyond ASCII in words of such than elsewhere is of another
    script, as Cyrillic is: which, nothing tells.
    """
    is_ascii = True
    in_words = elsewhere = 0
    rest = b""
    for chunk in chunks:
        if chunk.isascii():
            rest = b""
            continue
        is_ascii = False
        for run in _HIGH.findall(rest + chunk):
            if run.translate(None, _LEGACY) or _is_utf8(run):
                return None
            letters = sum(map(len, _FOREIGN_WORD.findall(run)))
            in_words += letters
            elsewhere += len(run) - letters
        rest = chunk[-4:] if chunk[-1] >= 0x80 else b""
    return None if is_ascii or in_words > elsewhere else "cp1252"


_HIGH = re.compile(rb"[\x80-\xff]+")
_FOREIGN_WORD = re.compile(rb"[\xc0-\xff]{4,}")
"""Western languages hardly ever have so many letters beyond ASCII in a row."""


def _is_utf8(run: bytes) -> bool:
    try:
        run.decode()
    except UnicodeDecodeError:
        return False
    return True
