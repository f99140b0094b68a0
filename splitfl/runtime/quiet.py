"""What other libraries print beside a run."""

import warnings

import transformers


def quiet() -> None:
    """Keeps the libraries' own bars and remarks off the screen; ours say what matters."""
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
