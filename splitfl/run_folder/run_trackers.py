"""All trackers of a run as one, so that the failure of one of them ends neither the run nor the others."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from splitfl.config import RunConfig
from splitfl.core.errors import ConfigError
from splitfl.setup.experiment_file import as_dict
from splitfl.tracking.registry import check_installed
from splitfl.tracking.spec import TrackedRun, Tracker

log = logging.getLogger(__name__)


class RunTrackers:
    """The backends of `tracking.to`; one that raises is closed and left out from then on."""

    def __init__(self, folder: Path, config: RunConfig, say: Callable[[str], None], first_round: int) -> None:
        """`say` is told of a failure once, as it happens; `finish` returns all of them.

        Raises ConfigError where a backend cannot start with a new run.
        """
        self._say = say
        self._failures: list[str] = []
        self._trackers: dict[str, Tracker] = {}
        run = TrackedRun(
            folder=folder, settings=as_dict(config), tracking=config.tracking, first_round=first_round
        )
        for name, spec in check_installed(config.tracking).items():
            try:
                self._trackers[name] = spec.start(run)
            except Exception as error:  # of any kind: it is another package's code
                if not first_round:
                    self.close()
                    raise ConfigError(f"tracking.to: {name} cannot start: {_message(error)}") from error
                self._failed(name, f"could not be continued from round {first_round + 1}", error)

    def log(self, round_index: int, metrics: Mapping[str, float]) -> None:
        """See Tracker."""
        self._each(f"failed after round {round_index + 1}", lambda one: one.log(round_index, metrics))

    def finish(self, summary: Mapping[str, Any]) -> list[str]:
        """Hands the summary to every backend; returns a sentence about each that failed in this run."""
        self._each("failed at the end of the run", lambda one: one.finish(summary))
        self.close()
        return self._failures

    def close(self) -> None:
        """See Tracker."""
        open_trackers, self._trackers = self._trackers, {}
        for name, tracker in open_trackers.items():
            try:
                tracker.close()
            except Exception as error:  # of any kind: it is another package's code
                self._failed(name, "could not be closed", error)

    def _each(self, when: str, do: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                do(tracker)
            except Exception as error:  # of any kind: it is another package's code
                del self._trackers[name]
                self._failed(name, when, error)
                _abandon(tracker)

    def _failed(self, name: str, when: str, error: Exception) -> None:
        self._failures.append(f"tracking to {name} {when}: {_message(error)}")
        self._say(f"{self._failures[-1]}; the run continues without it")


def _abandon(tracker: Tracker) -> None:
    try:
        tracker.close()
    except Exception as error:  # it has failed already, which was reported
        log.debug("closing a tracker that had failed: %s", error)


def _message(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), 'no message')}"
