"""TensorBoard: event files in the run's folder, for `tensorboard --logdir runs`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from splitfl.config import NoSettings
from splitfl.core.json_text import dumps
from splitfl.tracking.spec import TrackedRun, TrackerSpec

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER: Final = "tensorboard"


class TensorBoard:
    """Scalars by round, settings and summary as text."""

    def __init__(self, writer: "SummaryWriter") -> None:
        self._writer = writer

    def log(self, round_index: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, round_index)
        self._writer.flush()

    def finish(self, summary: Mapping[str, Any]) -> None:
        self._writer.add_text("summary", _as_markdown(summary))
        self._writer.add_text("status", summary["status"])

    def close(self) -> None:
        self._writer.close()


def start(run: TrackedRun) -> TensorBoard:
    """Writes beside what there is; readers leave out rounds that are written again (`purge_step`)."""
    from torch.utils.tensorboard import SummaryWriter

    folder = run.folder / FOLDER
    is_new = not folder.exists()
    writer = SummaryWriter(str(folder), purge_step=None if is_new else run.first_round)
    if is_new:
        writer.add_text("settings", _as_markdown(run.settings))
        writer.flush()
    return TensorBoard(writer)


def _as_markdown(table: Mapping[str, Any]) -> str:
    """The table as a code block of JSON."""
    return "\n".join(f"    {line}" for line in dumps(table, indent=2).splitlines())


SPEC: Final = TrackerSpec(
    about="TensorBoard: event files in the folder `tensorboard` of the run",
    package="tensorboard",
    install="pip install 'splitfl[tensorboard]'",
    settings=NoSettings,
    start=start,
)
