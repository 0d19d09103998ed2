"""Each version of a run's row is read once, whoever asks for it."""

from shared.core.run import Run
from shared.ports.tables import Row
from shared.store import rows

_read_run = rows.read_run


class ReadOnce:
    """`rows.read_run` for one table, which gives no etag twice: an etag stands for all that its row holds."""

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}

    def __call__(self, row: Row) -> Run:
        run = self._runs.get(row.etag)
        if run is None:
            run = self._runs[row.etag] = _read_run(row)
        return run
