"""Limits and times of Colosseum on which its public documentation contradicts itself, as settings.

After colosseum-wiot/user-documentation; the file that states a value is named beside it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final, get_type_hints

from splitfl.config import one_of
from splitfl.core.errors import ConfigError

_ENABLED: Final = ("text", "boolean")


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Values that a user changes where Colosseum behaves otherwise than assumed here. Raises ConfigError.

    `image_name_length`: 30 (less in manage_docker_containers), 31
    (prepare_a_new_lxc_container_for_upload) or 32 (save_image_snapshot). `ready_s`: start.sh is called
    300 s after boot (batch_mode_format) or 600 s after it (radio_command_and_control_c2_api).
    `prepare_s`: between that check and start.sh, 180 s. `cleanup_s`: between stop.sh and the removal of
    the container, 120 s. `script_s`: the limit of each script, 5 s. `loop_enabled`: Loopinfo.Enabled is
    the text "True" (the example in scenario_looping) or a boolean (its table).
    """

    image_name_length: int = 30
    ready_s: float = 300.0
    prepare_s: float = 180.0
    cleanup_s: float = 120.0
    script_s: float = 5.0
    loop_enabled: str = "text"

    def __post_init__(self) -> None:
        one_of("loop_enabled", self.loop_enabled, _ENABLED)
        for name in ("image_name_length", "ready_s", "prepare_s", "cleanup_s", "script_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be above 0, got {getattr(self, name)}")

    def image_name(self, name: str) -> str:
        """The name, if it can be an image's: letters, digits and dashes. Raises ConfigError."""
        if not re.fullmatch(rf"[A-Za-z0-9-]{{1,{self.image_name_length}}}", name):
            raise ConfigError(
                f"an image's name must be 1 to {self.image_name_length} letters, digits and dashes, "
                f"got {name!r}"
            )
        return name


def parse_rules(settings: Iterable[str]) -> Rules:
    """Rules changed by settings like `image_name_length=32`. Raises ConfigError."""
    kinds = get_type_hints(Rules)
    changed: dict[str, Any] = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        one_of("--rule", name, kinds)
        try:
            changed[name] = kinds[name](value)
        except ValueError:
            raise ConfigError(f"{name} must be of type {kinds[name].__name__}, got {value!r}") from None
    return replace(Rules(), **changed)
