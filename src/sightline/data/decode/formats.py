"""Formats of files: which ones Pillow may decode, which libraries others need, and what to do with those of other
kinds."""

import os
from collections import Counter
from collections.abc import Iterable

from PIL import features

from ...errors import SightlineError, counted

try:
    import pi_heif
except ImportError:
    pi_heif = None
else:
    pi_heif.register_heif_opener()

OPTIONAL = {"AVIF": bool(features.check("avif")), "HEIF": pi_heif is not None}
"""Formats that not every installation decodes: whether this one does."""
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", *(name for name, present in OPTIONAL.items() if present))
"""The only formats that Pillow may decode. Its other decoders can start programs (EPS) or are not needed."""
ENDINGS = {"AVIF": (".avif",), "HEIF": (".heic", ".heif", ".hif")}
BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIF", b"heix": "HEIF", b"hevc": "HEIF", b"mif1": "HEIF"}
SHOWN = {"AVIF": "AVIF", "HEIF": "HEIC"}
INSTALL = {"AVIF": "pip install --upgrade pillow", "HEIF": "pip install 'sightline-vision[heif]'"}
FOREIGN = {
    **dict.fromkeys((".dcm", ".dicom", ".ima"), ("DICOM", "dcm2img IN OUT.png (DCMTK)")),
    **dict.fromkeys((".mp4", ".avi", ".mov", ".mkv", ".webm"), ("video", "ffmpeg -i IN -vf fps=1 OUT_%05d.png")),
    **dict.fromkeys((".cr2", ".cr3", ".nef", ".arw", ".dng"), ("camera raw", "darktable-cli IN OUT.png")),
    **dict.fromkeys((".jp2", ".j2k"), ("JPEG 2000", "opj_decompress -i IN -o OUT.png")),
    ".psd": ("Photoshop", "magick 'IN[0]' OUT.png"),
    ".jxl": ("JPEG XL", "djxl IN OUT.png"),
    ".svg": ("SVG", "rsvg-convert IN -o OUT.png"),
    ".pdf": ("PDF", "pdftoppm -r 150 -png IN OUT"),
    ".nii": ("NIfTI", "med2image -i IN -o OUT.png"),
    ".npy": ("NumPy", 'python -c \'import numpy as n, PIL.Image as i; i.fromarray(n.load("IN")).save("OUT.png")\''),
    **dict.fromkeys((".zip", ".tar", ".gz"), ("archive", "bsdtar -xf IN")),
}
"""Extensions of other formats: their kind, and a command that makes images of such a file."""
SIGNATURES = {b"\xff\x0a": ".jxl", b"\0\0\0\x0cJXL ": ".jxl", b"8BPS": ".psd", b"\x93NUMPY": ".npy", b"%PDF": ".pdf"}


def require_decoders(names: Iterable[str], where: str) -> None:
    """Raise SightlineError if images have the extension of a format that this installation cannot decode."""
    for kind in (kind for kind, present in OPTIONAL.items() if not present):
        if count := sum(name.lower().endswith(ENDINGS[kind]) for name in names):
            what = f"{counted(count, f'{SHOWN[kind]} image')} cannot be read, because a library is missing"
            raise SightlineError(what, where=where, cure=INSTALL[kind])


def foreign_content(head: bytes) -> tuple[str, str]:
    """(What a file is, by its first bytes, and how to read or convert it; the command alone); ("", "") if it is not of
    a known other kind."""
    kind = BRANDS.get(head[8:12], "") if head[4:8] == b"ftyp" else ""
    if kind:
        text = f"it is a {SHOWN[kind]} image; to read it: {INSTALL[kind]}"
        return ("", "") if OPTIONAL[kind] else (text, INSTALL[kind])
    ending = next((ending for signature, ending in SIGNATURES.items() if head.startswith(signature)), "")
    ending = ".mp4" if head[4:8] == b"ftyp" else ".dcm" if head[128:132] == b"DICM" else ending
    name, command = FOREIGN.get(ending, ("", ""))
    return (f"it is a {name} file; convert it: {command}" if name else "", command)


def conversion_hint(tally: Counter[str], folder: str = "") -> str:
    """Commands that convert the skipped files of other formats, to be added to a cure; "" if there are none. tally:
    number of skipped files by extension. folder: where to look at a file without an extension."""
    kinds = {FOREIGN[ending]: ending for ending, _ in tally.most_common() if ending in FOREIGN}
    if not kinds and folder and "other" in tally:
        files = (os.path.join(path, name) for path, _, names in os.walk(folder) for name in names)
        bare = next((path for path in files if not os.path.splitext(path)[1] and os.path.isfile(path)), "")
        with open(bare or os.devnull, "rb") as file:
            kinds = {FOREIGN[".dcm"]: "without extension"} if file.read(132)[128:] == b"DICM" else {}
    shown = [f"{kind} files ({ending}) must be converted first: {command}" for (kind, command), ending in kinds.items()]
    return "".join(f"; {text}" for text in shown[:3])
