"""Every row of the harness, put together in sight."""

from reliability.contract import Row
from reliability.rows import checkpoints, images, settings, tables

ROWS: tuple[Row, ...] = (*images.ROWS, *tables.ROWS, *settings.ROWS, *checkpoints.ROWS)
