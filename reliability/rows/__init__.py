"""The list of all rows of the harness."""

from reliability.contract import Row
from reliability.rows import (
    bit_flips,
    checkpoints,
    decoders,
    disk,
    distributed,
    images,
    kills,
    messages,
    names,
    power_loss,
    server,
    settings,
    signals,
    tables,
    training,
)

ROWS: tuple[Row, ...] = (
    *kills.ROWS,
    *power_loss.ROWS,
    *disk.ROWS,
    *signals.ROWS,
    *training.ROWS,
    *bit_flips.ROWS,
    *distributed.ROWS,
    *images.ROWS,
    *decoders.ROWS,
    *tables.ROWS,
    *settings.ROWS,
    *checkpoints.ROWS,
    *names.ROWS,
    *messages.ROWS,
    *server.ROWS,
)
