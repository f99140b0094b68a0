"""Suppresses the output of other libraries."""

import warnings

import transformers


def quiet() -> None:
    """Suppresses progress bars, log messages and warnings of transformers."""
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
