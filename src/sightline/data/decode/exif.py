"""Whether an EXIF block is whole. Of a torn one nothing is used, for what it says of the orientation may be wrong."""

import struct

TORN = "torn_exif"
"""In the `info` of an image that was read all the same."""
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
"""Bytes of a value, by its type (TIFF 6.0; 13 by its supplement)."""
ENTRY, IN_PLACE = 12, 4


def is_torn(block: bytes) -> bool:
    """Whether the first directory of a block, or a value that it points at, lies beyond the block's end."""
    content = block.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(content[:4])
    if order is None or len(content) < 8:
        return True
    (start,) = struct.unpack_from(f"{order}I", content, 4)
    if start + 2 > len(content):
        return True
    (count,) = struct.unpack_from(f"{order}H", content, start)
    if start + 2 + ENTRY * count > len(content):
        return True
    for number in range(count):
        _, kind, values, place = struct.unpack_from(f"{order}HHII", content, start + 2 + ENTRY * number)
        size = SIZES.get(kind, 0) * values
        if size > IN_PLACE and place + size > len(content):
            return True
    return False
