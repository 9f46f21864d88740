"""How many bytes an image file lacks at its end, by what its format says of its own length."""

import io

from PIL import Image

END_OF_JPEG = b"\xff\xd9"
START_OF_SCAN, FILL = 0xDA, 0xFF
PNG_HEAD = 8
PNG_END = 12
"""Bytes of the chunk that ends a PNG file, and of what each of its chunks has beside its content."""
LIKELY = 100
"""A file that claims to lack more than so many times what it has is damaged, and not cut."""


def ends_early(content: bytes) -> str:
    """`it ends early: 7,000 bytes are there, and about 3,000 are missing`; empty where a file has its end, or where
    its format does not tell. content: all of a file that does not decode."""
    marks = ((b"\xff\xd8\xff", jpeg_lacks), (b"\x89PNG", png_lacks), (b"RIFF", webp_lacks), (b"BM", bmp_lacks))
    for mark, lacks in marks:
        if content.startswith(mark):
            missing = lacks(content)
            return f"it ends early: {len(content):,} bytes are there, and {missing}" if missing else ""
    return ""


def told(count: int, have: int, word: str = "") -> str:
    """`about 3,000 are missing`; empty where nothing is, or more than a cut would explain."""
    return f"{word}{count:,} {'is' if count == 1 else 'are'} missing" if 0 < count <= LIKELY * have else ""


def jpeg_lacks(content: bytes) -> str:
    """By the share of the rows that decode; of a progressive file, whose rows come last, only that it has no end."""
    start = scan_of(content)
    if start < 0 or content.find(END_OF_JPEG, start) >= 0:
        return ""
    share = decoded_share(content) if start < len(content) else 0.0
    if not share:
        return "how many are missing cannot be told"
    count = max(len(END_OF_JPEG), round((len(content) - start) * (1 - share) / share))
    return told(count, len(content), "about ")


def scan_of(content: bytes) -> int:
    """Where the coded pixels of a JPEG file begin; its length where it ends before, -1 where its head is damaged."""
    place = 2
    while place + 4 <= len(content):
        if content[place] != FILL:
            return -1
        kind, size = content[place + 1], int.from_bytes(content[place + 2 : place + 4])
        if kind == START_OF_SCAN:
            return min(place + 2 + size, len(content))
        place += 1 if kind == FILL else 2 + size
    return len(content)


def decoded_share(content: bytes) -> float:
    """The share of the rows of a cut JPEG file that come out before its end; those that do not are black."""
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
            image.draft(None, (max(1, image.width // 8), max(1, image.height // 8)))  # an eighth of the work
            height = image.height
            try:
                image.load()
            except OSError:
                box = image.im.getbbox()
                return box[3] / height if box else 0.0
    except Exception:  # decoders raise nearly every type there is; then nothing is known
        return 0.0
    return 0.0


def png_lacks(content: bytes) -> str:
    """At least what the last chunk lacks, and the chunk that ends a file."""
    place = PNG_HEAD
    while place + 8 <= len(content):
        size, kind = int.from_bytes(content[place : place + 4]), content[place + 4 : place + 8]
        if not kind.isalpha():
            return ""
        place += size + PNG_END
        if kind == b"IEND":
            return told(place - len(content), len(content))
    return told(max(0, place - len(content)) + PNG_END, len(content), "at least ")


def webp_lacks(content: bytes) -> str:
    """The head has the length."""
    return told(8 + int.from_bytes(content[4:8], "little") - len(content), len(content))


def bmp_lacks(content: bytes) -> str:
    """The head has the length, or 0."""
    return told(int.from_bytes(content[2:6], "little") - len(content), len(content))
