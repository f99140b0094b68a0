"""Folders of this user for the state of what runs, gone after a reboot."""

import os
import tempfile
from pathlib import Path

from splitfl.core.errors import ConfigError


def runtime_folder(name: str) -> Path:
    """This user's folder for this purpose. Raises ConfigError if it belongs to another user."""
    own = Path(f"/run/user/{os.geteuid()}")
    given = os.environ.get("XDG_RUNTIME_DIR")
    parent = Path(given) if given else own if own.is_dir() else Path(tempfile.gettempdir())
    folder = parent / f"splitfl-{os.geteuid()}" / name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for one in (folder, folder.parent):
        if one.lstat().st_uid != os.geteuid() or one.is_symlink():
            raise ConfigError(f"{one} belongs to another user; set XDG_RUNTIME_DIR to a folder of your own")
    return folder
