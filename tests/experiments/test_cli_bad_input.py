"""Whatever is wrong is said in one clear line, with exit code 2, and nothing is left behind."""

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from experiments.cli.main import main
from splitfl.setup.experiment_file import as_dict
from tests.full_disk import full_disk
from tests.splitfl import toy

Ask = Callable[..., Result]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    toy.model(folder / "model")
    toy.data(folder / "data.tsv")
    (folder / "toy.json").write_text(json.dumps(toy.table(folder)))
    return folder


@pytest.fixture
def ask(place: Path, tmp_path: Path) -> Ask:
    """Runs the toy experiment with these settings over it, its folders below the test's own."""

    def run(*settings: str, preset: str = "", out: Path | None = None) -> Result:
        words = ["run", preset or str(place / "toy.json"), "--out", str(out or tmp_path / "runs")]
        return CliRunner().invoke(main, [*words, *(word for one in settings for word in ("--set", one))])

    return run


def assert_refused(result: Result, sentence: str, runs: Path, code: int = 2) -> None:
    """One line says what is wrong, the last of all, and no run's folder was made."""
    assert result.exit_code == code, result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert result.stderr.splitlines()[-1:] == errors
    assert sentence in errors[0]
    assert result.stdout == ""
    assert "Traceback" not in result.output
    assert not runs.exists() or not any(runs.iterdir())


WRONG = {
    "fed.rounds=3": "unknown key 'fed'; did you mean 'federation'? have model, partition, adapter",
    "federation.round=3": "unknown key 'federation.round'; did you mean 'rounds'? have clients",
    "federation": "--set takes table.key=value, got 'federation'",
    "federation.rounds.more=1": "federation.rounds.more=1': rounds is not a table",
    "federation.rounds=three": "federation.rounds must be of type int, got 'three'",
    "federation.rounds=0": "federation.rounds must be at least 1, got 0",
    "method.name=sfl-v22": "unknown method.name 'sfl-v22'; did you mean 'sfl-v2'? have",
    "method.in_flight=0": "method.in_flight must be at least 1, got 0",
    "federation.aggregator=rolor": "unknown federation.aggregator 'rolor'; did you mean 'rolora'? have",
    "federation.partition=idd": "unknown federation.partition 'idd'; did you mean 'iid'? have",
    "model.name=no/such": "model 'no/such' is not on this machine and could not be fetched from the hub",
    "model.name=../not//a name": "is neither a folder nor a valid hub name",
    "model.dtype=float64": "unknown model.dtype 'float64'; did you mean 'bfloat16'? have bfloat16, float32",
    "task.name=clasification": "unknown task.name 'clasification'; did you mean 'classification'? have",
    "task.data=nowhere.tsv": "there is no file or folder nowhere.tsv",
    "task.data=": "task 'classification' needs data",
    "task.max_length=41": "task.max_length must be at most the model's 40, got 41",
    "partition.cut=4": "a model of 4 blocks may be cut at 1..3, got 4",
    "partition.cut=0": "partition.cut must be at least 1, got 0",
    "federation.clients=0": "federation.clients must be at least 1, got 0",
    "federation.clients=1000000000": "federation.clients must be at most 1000000, got 1000000000",
    "federation.rounds=1000000000": "federation.rounds must be at most 1000000, got 1000000000",
    "client.threads=100000": "threads must be at most 1024, got 100000",
    "federation.clients=7": "assigns whole groups to clients; these data have 6 for 7 clients",
    "adapter.head.rank=0": "adapter rank must be at least 1, got 0",
    "adapter.body.alpha=0": "adapter alpha must be above 0.0, got 0",
    'adapter.head.targets=["q_proj"]': "adapter.head.targets: no module 'q_proj'; have",
    "link.up.rate_bps=-1": "link rate_bps must be at least 0, got -1.0",
    "link.up.rate_bps=nan": "link rate_bps must be at least 0, got nan",
    "link.down.loss_rate=1.0": "link loss_rate must lie in [0, 1), got 1.0",
    "train.head_lr=0": "train.head_lr must be above 0.0, got 0",
    "train.seed=-1": "train.seed must be at least 0, got -1",
    "client.device=gpu": "device must be auto, cpu or cuda[:N], got 'gpu'",
    "client.device=cudaz": "device must be auto, cpu or cuda[:N], got 'cudaz'",
    "transport.name=rcp": "unknown transport.name 'rcp'; did you mean 'rpc'? have",
    "transport.port=70000": "transport.port must be at most 65535, got 70000",
}


@pytest.mark.parametrize("setting", WRONG)
def test_a_wrong_setting_is_refused_in_one_line(setting: str, ask: Ask, tmp_path: Path) -> None:
    assert_refused(ask(setting), WRONG[setting], tmp_path / "runs")


def test_more_clients_than_samples_are_refused(ask: Ask, tmp_path: Path) -> None:
    result = ask("federation.clients=500", "federation.partition=iid")
    assert_refused(result, "federation.clients must be at most the", tmp_path / "runs")


def test_a_client_without_anything_to_learn_from_is_refused(ask: Ask, place: Path, tmp_path: Path) -> None:
    words = [f"{word}\tgroup-0" for word in toy.WORDS[:8]] + [
        f"cross a link {word}\tgroup-1" for word in toy.WORDS * 3
    ]
    (tmp_path / "short.tsv").write_text("text\tgroup\n" + "\n".join(words) + "\n")
    toy.model(tmp_path / "gpt2", "gpt2", "causal-lm")
    data, model = f"task.data={tmp_path / 'short.tsv'}", f"model.name={tmp_path / 'gpt2'}"
    result = ask("task.name=lm", data, model, "task.packing=truncate")
    assert_refused(result, "client 1 holds no samples: there is nothing to learn from", tmp_path / "runs")


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ("text\tlabel\na b\tx\nno label here\n", "bad.tsv, line 3: has 1 columns instead of 2"),
        ("text\tlabel\na b\tx\n\ty\n", "bad.tsv, line 3: the text is missing or empty"),
        ("text\tlabel\n", "bad.tsv holds no samples"),
        ("text\tlabel\n" + "a b\tx\n" * 9, "has one label only, 'x'"),
    ],
)
def test_a_malformed_row_is_named_by_file_and_line(
    rows: str, sentence: str, ask: Ask, tmp_path: Path
) -> None:
    (tmp_path / "bad.tsv").write_text(rows)
    assert_refused(ask(f"task.data={tmp_path / 'bad.tsv'}"), sentence, tmp_path / "runs")


@pytest.mark.slow
def test_malformed_rows_are_skipped_and_counted_where_one_asks_for_it(
    ask: Ask, place: Path, tmp_path: Path
) -> None:
    data = toy.data(tmp_path / "some.tsv").read_text() + "no label here\nnor here\n"
    (tmp_path / "some.tsv").write_text(data)
    result = ask(f"task.data={tmp_path / 'some.tsv'}", "task.bad_rows=skip", "federation.rounds=1")
    assert result.exit_code == 0, result.stderr
    assert "2 malformed rows of" in result.stderr


def test_an_unknown_preset_is_refused_with_the_nearest(ask: Ask, tmp_path: Path) -> None:
    assert_refused(ask(preset="dmeo"), "unknown preset 'dmeo'; did you mean 'demo'? have", tmp_path / "runs")


def test_a_preset_without_its_data_names_the_option_to_give(ask: Ask, tmp_path: Path) -> None:
    assert_refused(ask(preset="sst2"), "task 'sst2' needs data", tmp_path / "runs")


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("broken.toml", "[model\n", "broken.toml is not valid TOML"),
        ("broken.json", "{", "broken.json is not valid JSON"),
        ("list.json", "[]", "list.json must hold an object, got list"),
        ("wrong.toml", "model = 3", "model must be a table, got 3"),
        ("latin.toml", b"# \xe9", "cannot read the experiment file"),
        (None, "", "cannot read the experiment file"),
    ],
)
def test_a_broken_experiment_file_is_named(
    name: str | None, text: str | bytes, sentence: str, ask: Ask, tmp_path: Path
) -> None:
    path = tmp_path / (name or "none.toml")
    if name:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert_refused(ask(preset=str(path)), sentence, tmp_path / "runs")


def test_a_folder_that_cannot_be_made_is_named(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = ask(out=tmp_path / "file" / "runs")
    assert_refused(result, f"cannot write a run's folder in {tmp_path / 'file' / 'runs'}", tmp_path / "runs")


def test_a_full_disk_leaves_no_folder(ask: Ask, tmp_path: Path) -> None:
    with full_disk(100):
        result = ask()
    assert_refused(result, f"cannot write a run's folder in {tmp_path / 'runs'}: File", tmp_path / "runs")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_device_that_is_not_there_is_refused(ask: Ask, tmp_path: Path) -> None:
    sentence = "device must be cpu on this machine, which has no CUDA, got 'cuda:0'"
    assert_refused(ask("server.device=cuda:0"), sentence, tmp_path / "runs")


def test_a_port_in_use_is_refused(ask: Ask, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = ask("transport.name=rpc", f"transport.port={port}")
    assert_refused(result, f"cannot listen on 127.0.0.1:{port}: Address already in use", tmp_path / "runs")


def test_an_address_that_is_not_this_machines_is_refused(ask: Ask, tmp_path: Path) -> None:
    result = ask("transport.name=rpc", "transport.host=192.0.2.7")
    assert_refused(result, "no interface of this machine has the address 192.0.2.7", tmp_path / "runs")


@pytest.mark.parametrize(
    ("words", "sentence", "code"),
    [
        (["join", "127.0.0.1:1", "--client", "0", "--timeout", "0.1"], "no server at 127.0.0.1:1 within", 1),
        (["join", "127.0.0.1", "--client", "0"], "a server's address must be HOST:PORT, got '127.0.0.1'", 2),
        (["join", "127.0.0.1:99999", "--client", "0"], "a server's address must be HOST:PORT", 2),
        (["join", "127.0.0.1:80"], "Missing option '--client'", 2),
        (["join", "127.0.0.1:80", "--client", "one"], "'one' is not a valid integer", 2),
        (["join", "127.0.0.1:80", "--client", "-1"], "-1 is not in the range x>=0", 2),
        (["eval", "no-such-run"], "cannot read the experiment file no-such-run/config.json", 2),
        (["report", "no-such-run"], "no-such-run is not a run folder", 2),
        (["compare", "no-such-run"], "no-such-run is not a run folder", 2),
        (["cite", "no-such-preset"], "unknown preset 'no-such-preset'", 2),
        (
            ["list", "presents"],
            "'presents' is not one of 'presets', 'methods', 'adapters', 'models', 'tasks'",
            2,
        ),
        (["run"], "Missing argument 'PRESET'", 2),
        (["walk"], "No such command 'walk'", 2),
    ],
)
def test_a_wrong_command_names_its_error(words: list[str], sentence: str, code: int) -> None:
    result = CliRunner().invoke(main, words)
    assert result.exit_code == code
    assert sentence in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("words", ["run", "serve", "plan", "compare", "eval"])
def test_a_quantised_checkpoint_is_refused_alike_by_every_command(words: str, tmp_path: Path) -> None:
    toy.model(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    quantised = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    path.write_text(json.dumps(json.loads(path.read_text()) | quantised))
    toy.data(tmp_path / "data.tsv", 40)
    preset = tmp_path / "config.json"
    preset.write_text(json.dumps(as_dict(toy.config(tmp_path))))
    given = {"compare": ["--methods", "sfl-v2", "--preset", str(preset)], "eval": [str(tmp_path)]}
    given["serve"] = [str(preset), "--set", "transport.name=rpc"]
    result = CliRunner().invoke(main, [words, *given.get(words, [str(preset)])])
    assert result.exit_code == 2, result.output
    assert "the checkpoint is quantised by bitsandbytes according to" in result.stderr
    assert not (tmp_path / "runs").exists()
