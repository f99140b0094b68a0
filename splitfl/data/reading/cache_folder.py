"""The user's cache folder, whose files can be made again."""

import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)


def cache_folder() -> Path | None:
    """`splitfl` in the cache folder of the XDG base directory specification; None without a home folder."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if named.is_absolute():
        return named / "splitfl"
    try:
        return Path.home() / ".cache" / "splitfl"
    except RuntimeError as error:
        log.debug("there is no cache folder: %s", error)
        return None
