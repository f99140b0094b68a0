"""How a command ends: its exit code, and one clear line where it failed."""

import sys
import tempfile
import traceback
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

DONE, FAILED, BAD_USAGE = 0, 1, 2


def reports_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Ends with one clear line and exit code 2 for bad input, 1 for a run that failed or an error of ours."""

    @wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> None:
        from channel.core.errors import ChannelError
        from splitfl.core.errors import ConfigError, DataError, ModelMissing, SplitflError

        try:
            command(*args, **kwargs)
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except (ConfigError, DataError, ModelMissing, ChannelError) as error:
            stop(str(error), BAD_USAGE)
        except SplitflError as error:
            stop(str(error), FAILED)
        except OSError as error:
            stop(f"{error.filename or 'the system'}: {error.strerror or error}", FAILED)
        except KeyboardInterrupt:
            stop("interrupted; what was measured so far is in the run's folder", FAILED)
        except Exception as error:
            stop(_unexpected(error), FAILED)

    return guarded


def stop(message: str, code: int) -> None:
    """Says what went wrong and ends the process."""
    click.echo(f"Error: {message}", err=True)
    sys.exit(code)


def _unexpected(error: Exception) -> str:
    """A sentence about an error that nobody foresaw, and the file that has its traceback."""
    told = "".join(traceback.format_exception(error))
    what = f"unexpected {type(error).__name__}: {next(iter(str(error).splitlines()), 'it says no more')}"
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="splitfl-error-", suffix=".txt", delete=False, encoding="utf-8", errors="replace"
        ) as file:
            file.write(told)
    except OSError:  # no room or no right: better on the screen than nowhere
        click.echo(told, err=True)
        return what
    return f"{what}; this is a fault of splitfl's own, and its traceback is in {file.name}"
