"""Which column of a table is the text, the label and the group; others are ignored by name, or refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from splitfl.config import TaskConfig
from splitfl.core.errors import DataError
from splitfl.data.reading.forms import USUAL, Form

_SFT = "take task.name = 'sft' for chats and for prompts with completions ('seq2seq' for an encoder-decoder)"
_PAIRS = "pairs of texts are for tasks with labels, such as classification"
_UNSUPPORTED: Mapping[str, str] = {
    **dict.fromkeys(("messages", "conversations", "conversation", "dialog"), _SFT),
    **dict.fromkeys(("prompt", "completion", "instruction", "output", "response"), _SFT),
    **dict.fromkeys(("chosen", "rejected"), "preference pairs are not supported yet"),
    **dict.fromkeys(("sentence1", "sentence2", "text_pair", "premise", "hypothesis"), _PAIRS),
}


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of a table by their own names; "" where there is none."""

    by_role: Mapping[str, str]
    ignored: tuple[str, ...]

    def __str__(self) -> str:
        read = ", ".join(f"{role} from column {name!r}" for role, name in self.by_role.items())
        left_out = ", ".join(map(repr, self.ignored))
        return f"{read}; {left_out} ignored" if left_out else read


def find_columns(
    source: str, names: Sequence[str], config: TaskConfig, form: Form, *, is_table: bool = True
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
    chosen = [_key(chosen_column(config, role)) for role in form.roles]
    found = {role: _one(source, kept, role, chosen_column(config, role), chosen) for role in form.roles}
    by_role = {role: name for role, name in found.items() if name}
    _check_needs(source, names, by_role, form, is_table=is_table)
    unread = [name for name in names if name not in by_role.values()]
    for name in unread:
        if _key(name) in kept:
            raise DataError(_unread(source, name, names, form))
    return Columns(by_role=by_role, ignored=tuple(unread))


def chosen_column(config: TaskConfig, role: str) -> str:
    """The column that the settings name for this role; "" where they name none."""
    return str(getattr(config, f"{role}_column"))


def is_header(cells: Sequence[str], config: TaskConfig, form: Form) -> bool:
    """Whether a first row names columns: one of the settings', or one by a usual name."""
    if config.header == "none":
        return False
    chosen = (chosen_column(config, role) for role in form.roles)
    known = {_key(name) for name in chosen if name and not name.isdecimal()}
    roles = {*form.roles, "text", "label"} - {"group"}
    known |= {name for role in roles for name in USUAL[role]}
    return any(_key(cell) in known for cell in cells)


def _one(source: str, by_key: Mapping[str, str], role: str, chosen: str, taken: Sequence[str]) -> str:
    """The column of this role; one that the settings name for another role is not taken for it."""
    if chosen:
        if _key(chosen) not in by_key:
            have = ", ".join(by_key.values())
            raise DataError(f"{source} has no column {chosen!r} (task.{role}_column); it has {have}")
        return by_key[_key(chosen)]
    found = [by_key[name] for name in USUAL[role] if name in by_key and name not in taken]
    if len(found) > 1:
        raise DataError(
            f"{source} has the columns {' and '.join(map(repr, found))}: say in task.{role}_column which is "
            f"the {role}, and put the other into task.ignore_columns"
        )
    return found[0] if found else ""


def _check_needs(
    source: str, names: Sequence[str], by_role: Mapping[str, str], form: Form, *, is_table: bool
) -> None:
    """DataError for columns of two kinds of samples at once, and for those of none."""
    begun = [needed for needed in form.needs if any(role in by_role for role in needed)]
    if len(begun) > 1:
        several = [by_role[role] for needed in begun for role in needed if role in by_role]
        raise DataError(
            f"{source} has the columns {' and '.join(map(repr, several))}, which are samples of two kinds: "
            "put those of one into task.ignore_columns"
        )
    missing = [role for role in (begun or form.needs)[0] if role not in by_role]
    if missing and is_table:
        role = missing[0]
        others = "".join(
            f", nor {' and '.join(USUAL[one][0] for one in needed)}" for needed in form.needs[1:] if not begun
        )
        raise DataError(
            f"{source} has no column {' or '.join(USUAL[role][:2])}{others}; it has {', '.join(names)}"
            f"{_unsupported(names, form)}. Name the one to read in task.{role}_column"
        )


def _unsupported(names: Sequence[str], form: Form) -> str:
    reasons = (_UNSUPPORTED[_key(name)] for name in names if _key(name) in _UNSUPPORTED)
    able = {_SFT: "prompt" in form.roles, _PAIRS: "second_text" in form.roles}
    reason = next((reason for reason in reasons if not able.get(reason, False)), "")
    return f" ({reason})" if reason else ""


def _unread(source: str, name: str, names: Sequence[str], form: Form) -> str:
    if not form.is_labelled and _key(name) in USUAL["label"]:
        why = ", which a language model does not read"
    else:
        why = f", which is not read{_unsupported([name], form)}"
    *settings, last = (f"task.{role}_column" for role in form.roles)
    return (
        f"{source} has the column {name!r}{why}. Put it into task.ignore_columns to leave it out, or name "
        f"the columns to read in {', '.join(settings)} and {last}; it has {', '.join(names)}"
    )


def _key(name: str) -> str:
    return name.strip().casefold()
