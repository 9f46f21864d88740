"""The log of a run for TensorBoard, beside metrics.jsonl (`train.log tensorboard`)."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..errors import ENVIRONMENT, SightlineError
from ..runs.atomic import read_json_lines
from ..runs.run_folder import TENSORBOARD_FOLDER

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

POSITION = ("step", "epoch", "seconds")
"""Fields of every event that say when it was; they are no curves."""


class TensorBoardLog:
    """Write the numbers of a run's events as scalars, and at the end of the run its figures and the path of its report.

    Scalars are `train/NAME` during training, `val/NAME` after an evaluation and `final/NAME` of the finished run, at
    the optimizer step of the event; NAME is a field of metrics.jsonl. The first event opens the files: a resumed run
    continues them after its last step (`purge_step`), and a run without such files gets the events so far. The library
    writes by itself, without `runs.atomic`: after a crash the last event may be incomplete, which its reader ignores.

    folder: the run folder. Raises SightlineError (status ENVIRONMENT) if the package tensorboard is not installed.
    """

    def __init__(self, folder: Path):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            what, why = "the log for TensorBoard needs the package tensorboard", f"it cannot be imported: {error}"
            cure = "pip install 'sightline-vision[tensorboard]'; or train without it: --train.log none"
            raise SightlineError(what, where="train.log", why=why, cure=cure, status=ENVIRONMENT) from error
        self.make_writer = SummaryWriter
        self.folder = folder
        self.writer: SummaryWriter | None = None
        self.done: dict[str, Any] = {}

    def event(self, record: dict[str, Any]) -> None:
        """Write the numbers of an event, a line of metrics.jsonl. Raises OSError if the disk is full or broken."""
        if self.writer is None:
            target = self.folder / TENSORBOARD_FOLDER
            continued = any(target.glob("events.*"))
            self.writer = self.make_writer(str(target), purge_step=record["step"] + 1 if continued else None)
            for earlier in [] if continued else read_json_lines(self.folder / "metrics.jsonl"):
                self.scalars(self.writer, earlier)
            return
        self.scalars(self.writer, record)
        self.writer.flush()

    def scalars(self, writer: "SummaryWriter", record: dict[str, Any]) -> None:
        """Write the numbers of one event. An event without a valid step, of a damaged file, is left out."""
        name, step = record.get("event"), record.get("step")
        self.done = record if name == "done" else {}
        prefix = {"train": "train", "eval": "val", "done": "final"}.get(str(name))
        for key, value in record.items() if prefix and isinstance(step, int) else ():
            if isinstance(value, int | float) and not isinstance(value, bool) and key not in POSITION:
                writer.add_scalar(f"{prefix}/{key}", value, step)

    def close(self) -> None:
        """Write figures and the path of the report if the run is finished; close the files."""
        if self.writer is None:
            return
        if self.done:
            proto: Any = import_module("tensorboard.compat.proto.summary_pb2")  # generated, without types
            file, step = self.writer._get_file_writer(), self.done["step"]
            for path in sorted((self.folder / "figures").glob("*.png")):
                # `add_image` would decode and encode the file again, which takes 0.1 s per figure.
                with Image.open(path) as image:
                    size = {"width": image.width, "height": image.height}
                image = proto.Summary.Image(**size, colorspace=3, encoded_image_string=path.read_bytes())
                value = proto.Summary.Value(tag=path.stem, image=image)
                file.add_summary(proto.Summary(value=[value]), step)
            self.writer.add_text("report", str((self.folder / "report.html").resolve()), step)
        self.writer.close()
