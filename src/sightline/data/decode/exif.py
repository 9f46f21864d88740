"""Detect damaged EXIF blocks, whose orientation may be lost."""

import struct

TORN = "torn_exif"
"""Key in the `info` of an image whose EXIF block is damaged."""
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
"""Bytes of a value by its type number (TIFF 6.0)."""


def is_torn(block: bytes) -> bool:
    """Whether the first directory of an EXIF block, or a value in it, extends beyond the end of the block."""
    content = block.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(content[:4], "")
    try:
        (start,) = struct.unpack_from(f"{order}I", content, 4)
        (count,) = struct.unpack_from(f"{order}H", content, start)
        entries = [struct.unpack_from(f"{order}HHII", content, start + 2 + 12 * index) for index in range(count)]
    except struct.error:
        return True
    sizes = [(SIZES.get(kind, 0) * values, offset) for _, kind, values, offset in entries]
    return not order or any(size > 4 and offset + size > len(content) for size, offset in sizes)
