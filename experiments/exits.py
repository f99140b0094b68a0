"""How a command ends: its exit code, and one clear line where it failed."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

DONE, FAILED, BAD_USAGE = 0, 1, 2


def reports_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Ends with one clear line and exit code 2 for bad input, 1 for a run that failed."""

    @wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> None:
        from splitfl.errors import ConfigError, DataError, ModelMissing, SplitflError

        try:
            command(*args, **kwargs)
        except (ConfigError, DataError, ModelMissing) as error:
            stop(str(error), BAD_USAGE)
        except SplitflError as error:
            stop(str(error), FAILED)
        except OSError as error:
            stop(f"{error.filename or 'the system'}: {error.strerror}", FAILED)
        except KeyboardInterrupt:
            stop("interrupted; what was measured so far is in the run's folder", FAILED)

    return guarded


def stop(message: str, code: int) -> None:
    """Says what went wrong and ends the process."""
    click.echo(f"Error: {message}", err=True)
    sys.exit(code)
