"""Every row of the harness, put together in sight."""

from reliability.contract import Row
from reliability.rows import (
    checkpoints,
    decoders,
    disk,
    distributed,
    images,
    kills,
    names,
    power,
    rot,
    server,
    settings,
    signals,
    tables,
    told,
    training,
)

ROWS: tuple[Row, ...] = (
    *kills.ROWS,
    *power.ROWS,
    *disk.ROWS,
    *signals.ROWS,
    *training.ROWS,
    *rot.ROWS,
    *distributed.ROWS,
    *images.ROWS,
    *decoders.ROWS,
    *tables.ROWS,
    *settings.ROWS,
    *checkpoints.ROWS,
    *names.ROWS,
    *told.ROWS,
    *server.ROWS,
)
