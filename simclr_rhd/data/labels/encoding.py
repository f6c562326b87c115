"""The text of a table in any of the encodings that spreadsheets write; other kinds of file are refused."""

import codecs
import re
import unicodedata

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.text import printable

BYTE_ORDER_MARKS = (  # UTF-16's begins UTF-32's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
MAX_TABLE_BYTES, MAX_LINE_BYTES = 2**27, 2**20  # bytes
ENCODING_SAMPLE_BYTES = 4096  # bytes by which an encoding is guessed
BLANKS = (b" ", b"\t", b"\r", b"\n")
CSV_ADVICE = "Open it, save it as CSV (UTF-8), and name that file"
UNPACK_ADVICE = "Unpack it, and name the table within"
OTHER_FILE_TYPES = (  # how they begin, what they are, what to do
    (b"PK\x03\x04", "a workbook (.xlsx, .ods) or another zip archive", CSV_ADVICE),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old workbook (.xls)", CSV_ADVICE),
    (b"\x1f\x8b", "compressed with gzip", UNPACK_ADVICE),
    (b"BZh", "compressed with bzip2", UNPACK_ADVICE),
    (b"\xfd7zXZ\x00", "compressed with xz", UNPACK_ADVICE),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", UNPACK_ADVICE),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK_ADVICE),
    (b"Rar!", "a rar archive", UNPACK_ADVICE),
    (b"%PDF", "a PDF document", "Export the table as CSV"),
    (b"{\\rtf", "a text document (RTF)", "Export the table as CSV"),
    (b"SQLite format 3", "an SQLite database", "Export the table as CSV"),
    (b"PAR1", "a Parquet file", "Save it as CSV (UTF-8), and name that file"),
    (b"<!doctype", "a web page", "A page stands there instead of the table: download it again, signed in"),
    (b"<html", "a web page", "A page stands there instead of the table: download it again, signed in"),
    (b"<stata", "a Stata file", CSV_ADVICE),
    (b"<table", "a web page", CSV_ADVICE),
    (b"<", "an XML document", CSV_ADVICE),
    (b"$FL", "an SPSS file", CSV_ADVICE),
    (b"version https://git-lfs", "a pointer of Git LFS to the table", "Fetch the table itself: git lfs pull"),
    (b"ARROW1", "a Feather file", CSV_ADVICE),
    (b"\x89HDF", "an HDF5 file", CSV_ADVICE),
    (b'{"', "a JSON document", "Export the labels as CSV"),
    (b"[{", "a JSON document", "Export the labels as CSV"),
    *(
        (sign + blank, "a JSON document", "Export the labels as CSV")
        for sign in (b"[", b"{")
        for blank in BLANKS
    ),
)


def decode_table(table: bytes, name: str) -> str:
    """The text of a table; `name` is what messages call it.

    Raises:
        UserError: it is another kind of file, has a line that is no row, or is no text.
    """
    _refuse_other_file_types(table, name)
    _refuse_long_lines(table, name)
    return _decode(table, name)


def _refuse_other_file_types(table: bytes, name: str) -> None:
    """Refuse a file that is often taken for a CSV file, with the way to make one.

    Raises:
        UserError: the bytes are of such a file.
    """
    for start, kind, advice in OTHER_FILE_TYPES:
        if (
            table[:ENCODING_SAMPLE_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n")[: len(start)].lower()
            == start.lower()
        ):
            raise UserError(f"{name}: {kind}, no CSV table. {advice}")


def _refuse_long_lines(table: bytes, name: str) -> None:
    """A line of megabytes is no row; found before the bytes are decoded, it costs neither memory nor time.

    Raises:
        UserError: there is one.
    """
    start, number = 0, 1
    while start < len(table):
        ends = (table.find(sign, start, start + MAX_LINE_BYTES) for sign in (b"\n", b"\r"))
        end = min((end for end in ends if end >= 0), default=-1)
        if end < 0 and len(table) - start > MAX_LINE_BYTES:
            raise UserError(f"{name}: line {number} has more than {MAX_LINE_BYTES} bytes; is it a CSV table?")
        start, number = (end + 1 if end >= 0 else len(table)), number + (table[end : end + 1] == b"\n")


def _decode(table: bytes, name: str) -> str:
    """A table's text in any of the encodings that spreadsheets write, without their marks at its start.

    Raises:
        UserError: it is no text.
    """
    encoding = next((encoding for mark, encoding in BYTE_ORDER_MARKS if table.startswith(mark)), "")
    if (
        not encoding and b"\0" in table[:ENCODING_SAMPLE_BYTES]
    ):  # UTF-16: every other byte of plain letters is 0
        low, high = table[:ENCODING_SAMPLE_BYTES:2].count(0), table[1:ENCODING_SAMPLE_BYTES:2].count(0)
        encoding = "utf-16-le" if high > 3 * low else "utf-16-be" if low > 3 * high else ""
        if not encoding:
            raise UserError(f"{name}: holds bytes that are no text. Save it as CSV in UTF-8")
    if encoding:
        text = table.decode(encoding, errors="replace")
    else:
        try:
            text = table.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = table.decode("cp1252", errors="replace")
    text = re.sub(r"\A\s*sep=.\r?\n", lambda mark: "\n" * mark[0].count("\n"), text)
    # What is not seen must not make two names of one, nor turn the direction in which figures are read.
    return printable(nfc(text), keep="\r\n\t")


def nfc(text: str) -> str:
    """A text in the normal form C."""
    return unicodedata.normalize("NFC", text)  # some systems list "é" as two characters
