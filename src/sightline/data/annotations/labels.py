"""Labels of images from annotation files: one class, or a label set."""

from ...config.schema import Data
from ...errors import SightlineError, counted, listing, some_of
from ..sources.scan import Layout, SplitFiles
from .reading import Annotations, Found


def label_layout(root: str, found: Annotations, data: Data) -> Layout:
    """The labels of annotated images as a `Layout`.

    If the files label whole images (tags, flags, choices), these are the labels, else the labels of the objects. If
    every labeled image has one label, images have classes, and images without a label are left out. Otherwise, and with
    `data.labels several`, they have label sets, which may be empty. Raises SightlineError if no image has a label, or
    if images have several with `data.labels one`.
    """
    every = [image for members in found.splits.values() for _, image in members]
    tagged = any(image.tags for image in every)
    labels = {id(image): tuple(dict.fromkeys(image.tags if tagged else image.objects)) for image in every}
    several = [image.file for image in every if len(labels[id(image)]) > 1]
    bare = [image.file for image in every if not labels[id(image)]]
    if len(bare) == len(every):
        cure = "annotate the images, or read only the images: --data.layout unlabelled"
        raise SightlineError("no image of the annotations has a label", where=root, cure=cure)
    if several and data.labels == "one":
        why = f"{counted(len(several), 'image')} of {len(every):,} have several labels:\n{listing(several)}"
        cure = "use a recipe for several labels: sightline recipes; or remove this setting: --data.labels auto"
        raise SightlineError("images have several labels, but data.labels is one", where=root, why=why, cure=cure)
    sets = bool(several) or data.labels == "several"
    origin = "the labels of the images" if tagged else "the labels of the objects in an image"
    if sets:
        note = f"label sets: {origin}; {counted(len(several), 'image')} with several, {len(bare):,} without a label"
    else:
        note = f"one class per image: {origin}"

    def part(members: list[Found]) -> SplitFiles:
        kept = [(file, labels[id(image)]) for file, image in members if sets or labels[id(image)]]
        return SplitFiles([file for file, _ in kept], [own if sets else own[0] for _, own in kept])

    notes = [*found.notes, note]
    if bare and not sets:
        notes.append(f"{counted(len(bare), 'image')} without a label left out: {some_of(bare)}")
    splits = {split: part(members) for split, members in found.splits.items()}
    return Layout(
        found.format, {split: each for split, each in splits.items() if each.files}, tuple(notes), found.classes
    )
