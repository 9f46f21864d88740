"""Every row of the harness, put together in sight."""

from reliability.contract import Row

ROWS: tuple[Row, ...] = ()
