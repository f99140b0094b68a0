"""How a command imports the libraries that it needs."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collections() -> Iterator[None]:
    """Suspends garbage collection.

    Importing torch and transformers makes hundreds of thousands of objects that all stay; looking for
    garbage among them again and again takes a sixth of the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
