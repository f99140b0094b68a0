"""Fast imports of large libraries."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collections() -> Iterator[None]:
    """Suspends garbage collection.

    Importing torch and transformers creates hundreds of thousands of objects that are never freed; scanning
    them repeatedly for garbage takes a sixth of the import time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
