"""Why an image cannot be decoded, by its first bytes, and what to do."""

import os

from PIL import Image

from ...errors import SightlineError
from .formats import FORMATS, foreign_content

HEAD = 132
"""Number of bytes at the start of a file that are inspected if it cannot be decoded."""
RESAVE = "save it smaller or as 8-bit PNG or JPEG, or remove it; to train with its size: --data.max_pixels NUMBER"
STRIP = "save it again without text chunks and color profile: convert IN -strip OUT, or remove it"
COPY = (
    "copy the image again from its source, or remove it; to train without a few such images (not in segmentation): "
    "--data.on_bad_image skip"
)


class TooLarge(SightlineError):
    """An image above the limit `data.max_pixels`. size: of the image in words. times: how many times the setting the
    limit is. upload: the reason for the sender of an uploaded image, who has no settings."""

    def __init__(self, size: str, max_pixels: int, times: int = 1):
        setting, limit = f"{times} x --data.max_pixels" if times > 1 else "--data.max_pixels", times * max_pixels
        super().__init__(f"the image has {size}; the limit {setting} is {limit:,}")
        self.upload = f"the image has {size}; the limit is {limit:,}"


def image_error(path: str, error: Exception, content: bytes | None = None) -> SightlineError:
    """The SightlineError for an image that cannot be used, with its path and a cure. error: the exception of the
    decoder. content: the bytes of the image if it was not read from a file."""
    if isinstance(error, SightlineError | Image.DecompressionBombError | Image.DecompressionBombWarning):
        cure = error.cure if isinstance(error, SightlineError) else ""
        why = error.what if isinstance(error, SightlineError) else str(error)
        return SightlineError("this image cannot be used", where=path, why=why, cure=cure or RESAVE)
    why, cure = diagnosis(path, error, content)
    return SightlineError("this image cannot be read", where=path, why=why, cure=cure)


def diagnosis(path: str, error: Exception, content: bytes | None = None) -> tuple[str, str]:
    """Why a file at `path`, or the bytes `content`, cannot be decoded, and what to do: (why, cure)."""
    if content is not None:
        return diagnosis_of(content[:HEAD], len(content), error)
    try:
        with open(path, "rb") as file:
            return diagnosis_of(file.read(HEAD), os.fstat(file.fileno()).st_size, error)
    except (OSError, ValueError) as problem:
        broken = os.path.islink(path) and not os.path.exists(path)
        why = "the target of the link does not exist" if broken else getattr(problem, "strerror", None) or str(problem)
        return why, "repair the link or the permissions (chmod u+r FILE), or remove it"


def diagnosis_of(head: bytes, size: int, error: Exception) -> tuple[str, str]:
    """Why a file cannot be decoded, and what to do: (why, cure). head: the first bytes of the file. size: its size
    in bytes. error: the exception of its decoder."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "it is empty (0 bytes)", COPY
    if text.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the image", "fetch the images: git lfs pull"
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<svg", b"{")):
        return (
            f"it starts with {text[:12].decode('ascii', 'replace')!r}, not like an image; perhaps a download failed",
            COPY,
        )
    why, command = foreign_content(head)
    if why:
        return why, command
    webp_cut = head.startswith(b"RIFF") and size < 8 + int.from_bytes(head[4:8], "little")
    tags_at = int.from_bytes(head[4:8], "big" if head[:2] == b"MM" else "little")
    tiff_cut = head[:4] in (b"II*\0", b"MM\0*") and tags_at >= size
    if webp_cut or tiff_cut or "truncated" in str(error).lower():
        return f"it is truncated: it ends after {size:,} bytes", COPY
    if "MAX_TEXT" in str(error):
        return "its text chunks or its color profile are too large once decompressed", STRIP
    if isinstance(error, Image.UnidentifiedImageError) and head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        why = "it is a TIFF file with an unsupported number of bits or bands, or an unsupported compression"
        return why, "convert it to 8-bit RGB: gdal_translate -ot Byte -scale -b 1 -b 2 -b 3 IN OUT"
    if isinstance(error, Image.UnidentifiedImageError):
        start = head[:8].decode("ascii", "replace")
        return f"it is not an intact {', '.join(FORMATS)} file; it starts with {start!r}", COPY
    return f"{type(error).__name__}: {error}", COPY
