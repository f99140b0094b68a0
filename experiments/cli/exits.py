"""Exit codes of commands, and one-line error messages."""

import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Final

import click

DONE, FAILED, BAD_USAGE = 0, 1, 2
_FOLDER: Final = "run_folder"
"""The attribute of an error with the folder of the run that it ended."""


@contextmanager
def names_folder(folder: Callable[[], Path | None]) -> Iterator[None]:
    """An unexpected error in this context leaves its traceback in the folder, if there is one by then."""
    try:
        yield
    except Exception as error:
        setattr(error, _FOLDER, folder())
        raise


def reports_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Turns errors into one line and exit code 2 for bad input, 1 for a failed run or an internal error."""

    @wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> None:
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
            stop("interrupted; the metrics so far are in the run folder", FAILED)
        except Exception as error:
            stop(_unexpected(error), FAILED)

    return wrapper


def stop(message: str, code: int) -> None:
    """Prints the error and exits with this code."""
    click.echo(f"Error: {message}", err=True)
    sys.exit(code)


def _unexpected(error: Exception) -> str:
    """The message of an internal error, with the path of a file that has its traceback."""
    text = "".join(traceback.format_exception(error))
    what = f"unexpected {type(error).__name__}: {next(iter(str(error).splitlines()), 'no message')}"
    folder = getattr(error, _FOLDER, None)
    for parent in (folder, None) if folder else (None,):
        try:
            with tempfile.NamedTemporaryFile(
                "w",
                prefix="splitfl-error-",
                suffix=".txt",
                dir=parent,
                delete=False,
                encoding="utf-8",
                errors="replace",
            ) as file:
                file.write(text)
        except OSError:  # no permission, or the disk is full
            continue
        return f"{what}; this is a bug in splitfl; its traceback is in {file.name}"
    click.echo(text, err=True)
    return what
