"""Every row of the harness, put together in sight."""

from reliability.contract import Row
from reliability.rows import checkpoints, decoders, images, names, server, settings, tables

ROWS: tuple[Row, ...] = (
    *images.ROWS,
    *decoders.ROWS,
    *tables.ROWS,
    *settings.ROWS,
    *checkpoints.ROWS,
    *names.ROWS,
    *server.ROWS,
)
