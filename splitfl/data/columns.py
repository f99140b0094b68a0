"""Which column of a table is the text, the label and the group; others are ignored by name, or refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from splitfl.config import TaskConfig
from splitfl.core.errors import DataError

TEXT_COLUMNS = ("text", "sentence")
LABEL_COLUMNS = ("label", "labels")
GROUP_COLUMNS = ("group",)

_CHAT = "chat messages are not supported yet"
_ANSWERS = "prompts with answers are not supported yet"
_PAIRS = "pairs of texts are not supported yet"
_UNSUPPORTED: Mapping[str, str] = {
    **dict.fromkeys(("messages", "conversations", "conversation", "dialog"), _CHAT),
    **dict.fromkeys(("prompt", "completion", "instruction", "output", "response"), _ANSWERS),
    **dict.fromkeys(("chosen", "rejected"), "preference pairs are not supported yet"),
    **dict.fromkeys(("sentence1", "sentence2", "text_pair", "premise", "hypothesis"), _PAIRS),
}


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of a table by their own names; "" where there is none."""

    text: str
    label: str
    group: str
    ignored: tuple[str, ...]

    def __str__(self) -> str:
        roles = {"text": self.text, "label": self.label, "group": self.group}
        read = ", ".join(f"{role} from column {name!r}" for role, name in roles.items() if name)
        left_out = ", ".join(map(repr, self.ignored))
        return f"{read}; {left_out} ignored" if left_out else read


def find_columns(
    source: str, names: Sequence[str], config: TaskConfig, *, labelled: bool, is_table: bool = True
) -> Columns:
    """What each of these columns is, by the settings or by a usual name in any case.

    Raises DataError for a column that is neither read nor ignored, for two that could both be read, and
    where `is_table`, so that all rows have the same, for one that is missing.
    """
    by_key: dict[str, str] = {}
    for name in names:
        if (key := _key(name)) in by_key:
            raise DataError(f"{source} has two columns named {name!r}; rename one")
        by_key[key] = name
    ignored = {_key(name) for name in config.ignore_columns}
    kept = {key: name for key, name in by_key.items() if key not in ignored}
    text = _one(source, kept, "text", config.text_column, TEXT_COLUMNS)
    label = _one(source, kept, "label", config.label_column, LABEL_COLUMNS) if labelled else ""
    group = _one(source, kept, "group", config.group_column, GROUP_COLUMNS)
    if is_table:
        _require(source, names, text, label if labelled else None)
    unread = [name for name in names if name not in (text, label, group)]
    for name in unread:
        if _key(name) in kept:
            raise DataError(_unread(source, name, names, labelled))
    return Columns(text=text, label=label, group=group, ignored=tuple(unread))


def is_header(cells: Sequence[str], config: TaskConfig) -> bool:
    """Whether a first row names columns: one of the settings', or one by a usual name."""
    if config.header == "none":
        return False
    chosen = (config.text_column, config.label_column, config.group_column)
    known = {_key(name) for name in chosen if name and not name.isdecimal()}
    known |= {*TEXT_COLUMNS, *LABEL_COLUMNS}
    return any(_key(cell) in known for cell in cells)


def _one(source: str, by_key: Mapping[str, str], role: str, chosen: str, usual: tuple[str, ...]) -> str:
    if chosen:
        if _key(chosen) not in by_key:
            have = ", ".join(by_key.values())
            raise DataError(f"{source} has no column {chosen!r} (task.{role}_column); it has {have}")
        return by_key[_key(chosen)]
    found = [by_key[name] for name in usual if name in by_key]
    if len(found) > 1:
        raise DataError(
            f"{source} has the columns {' and '.join(map(repr, found))}: say in task.{role}_column which is "
            f"the {role}, and put the other into task.ignore_columns"
        )
    return found[0] if found else ""


def _require(source: str, names: Sequence[str], text: str, label: str | None) -> None:
    needed = {"text": (text, TEXT_COLUMNS), "label": (label, LABEL_COLUMNS)}
    for role, (name, usual) in needed.items():
        if name == "":
            raise DataError(
                f"{source} has no column {' or '.join(usual)}; it has {', '.join(names)}"
                f"{_unsupported(names)}. Name the one to read in task.{role}_column"
            )


def _unsupported(names: Sequence[str]) -> str:
    reason = next((_UNSUPPORTED[_key(name)] for name in names if _key(name) in _UNSUPPORTED), "")
    return f" ({reason})" if reason else ""


def _unread(source: str, name: str, names: Sequence[str], labelled: bool) -> str:
    if not labelled and _key(name) in LABEL_COLUMNS:
        why = ", which a language model does not read"
    else:
        why = f", which is not read{_unsupported([name])}"
    return (
        f"{source} has the column {name!r}{why}. Put it into task.ignore_columns to leave it out, or name "
        f"the columns to read in task.text_column{', task.label_column' * labelled} and task.group_column; "
        f"it has {', '.join(names)}"
    )


def _key(name: str) -> str:
    return name.strip().casefold()
