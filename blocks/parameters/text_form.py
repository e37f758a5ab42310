"""The form of a text file: its encoding, as code units of one width, and its structural characters."""

import codecs
from dataclasses import dataclass

import numpy as np

from prefect_batch.blocks.errors import BadParameter

# Codecs whose code units are wider than a byte. If the name has no byte order, the mark at the file's start has it.
_WIDE = {"utf-16": 2, "utf-16-le": 2, "utf-16-be": 2, "utf-32": 4, "utf-32-le": 4, "utf-32-be": 4}
# In these, a byte of ASCII may be the second half of a character: digits and 0x40 to 0x7E.
_DOUBLE = {"shift_jis", "shift_jis_2004", "shift_jisx0213", "cp932", "gbk", "gb18030", "big5", "big5hkscs", "cp950"}
_DOUBLE |= {"cp949", "johab"}
_MARKS: tuple[tuple[str, bytes], ...] = (
    ("utf-8", codecs.BOM_UTF8),
    ("utf-32-le", codecs.BOM_UTF32_LE),
    ("utf-32-be", codecs.BOM_UTF32_BE),
    ("utf-16-le", codecs.BOM_UTF16_LE),
    ("utf-16-be", codecs.BOM_UTF16_BE),
)


@dataclass(frozen=True)
class TextForm:
    """How a file's bytes are read.

    Attributes:
        unit: The type of a code unit.
        delimiter: The code unit between fields. None for JSON Lines.
        quote: The code unit around fields. None if there is none.
        escape: The code unit that makes the next one literal. None if there is none.
    """

    encoding: str
    unit: "np.dtype[np.unsignedinteger[np.typing.NBitBase]]"
    delimiter: int | None
    quote: int | None
    escape: int | None

    @property
    def width(self) -> int:
        """The number of bytes in a code unit."""
        return self.unit.itemsize

    def mark(self, head: bytes) -> int:
        """Return how many bytes of `head` are a byte order mark."""
        return next((len(m) for name, m in _MARKS if name == self.encoding and head.startswith(m)), 0)

    def as_utf8(self, raw: bytes) -> bytes:
        """Return the text as UTF-8.

        Raises:
            UnicodeDecodeError: the bytes are not in this encoding.
        """
        text = raw.decode(self.encoding)
        return raw if self.encoding == "utf-8" else text.encode()


def text_form(
    encoding: str, delimiter: str | None = None, quote: str | None = None, escape: str | None = None, head: bytes = b""
) -> TextForm:
    """Return the form of a file that begins with the bytes `head`.

    Raises:
        BadParameter: there is no such encoding, or its records can only be found by reading from the top.
    """
    name = _seekable(encoding)
    if name in ("utf-16", "utf-32"):
        # Without a mark it is little-endian, where Python's codec takes the byte order of the machine.
        name = next((wide for wide, mark in _MARKS if wide.startswith(name) and head.startswith(mark)), f"{name}-le")
    width = _WIDE.get(name, 1)
    unit = np.dtype(f"{'>' if name.endswith('-be') else '<'}u{width}")

    def value(character: str | None) -> int | None:
        if character is None:
            return None
        encoded = character.encode(name)
        if len(encoded) != width or (name in _DOUBLE and 0x30 <= encoded[0] <= 0x7E and encoded[0] not in b":;<=>?"):
            raise BadParameter(f"the character {character!r} cannot be found safely in {encoding}: choose another one")
        return int(np.frombuffer(encoded, unit)[0])

    return TextForm(name, unit, value(delimiter), value(quote), value(escape))


def _seekable(encoding: str) -> str:
    """Return Python's name of the encoding, or raise BadParameter if its records can only be found from the top."""
    try:
        name = codecs.lookup(encoding).name
    except LookupError as error:
        raise BadParameter(
            f"there is no encoding {encoding!r}: Python knows utf-8, cp1252, latin-1, utf-16, …"
        ) from error
    name = "utf-8" if name in ("utf-8-sig", "ascii") else name
    if name in _WIDE:
        return name
    ascii_text = "".join(map(chr, range(128)))
    try:
        plain = ascii_text.encode(name) == ascii_text.encode("ascii")
    except (LookupError, UnicodeError):  # A codec of bytes, such as base64, or one that lacks such characters.
        plain = False
    if not plain or name.startswith(("iso2022", "utf-7", "utf_7", "hz")):
        raise BadParameter(
            f"records cannot be found in the middle of text in {encoding}, because what its bytes mean depends on "
            "those before them: convert the files to UTF-8. Encodings that contain ASCII, UTF-16 and UTF-32 can be read"
        )
    return name
