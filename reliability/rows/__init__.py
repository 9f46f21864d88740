"""Every row of the harness, put together in sight."""

from reliability.contract import Row
from reliability.rows import images

ROWS: tuple[Row, ...] = (*images.ROWS,)
