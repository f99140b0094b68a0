import signal
import sys
import time

import pytest
from click.testing import CliRunner

from channel.calibration.__main__ import main


def test_without_the_extra_simulate_names_the_package_and_writes_nothing(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "numba", None)
    result = CliRunner().invoke(main, ["simulate", str(tmp_path / "points")])
    assert (result.exit_code, list(tmp_path.iterdir())) == (2, [])
    assert (
        result.output == "Error: simulating codes needs numba; install with: pip install 'splitfl[radio]'\n"
    )


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        (None, 1, "points: No such file or directory"),
        ("", 2, "must be the JSON lines of a simulation"),
        ("no JSON\n", 2, "must be the JSON lines of a simulation"),
        ('{"seed": 0}\n', 2, "points must cover every curve; missing: QPSK 78/1024, 1000 bits"),
    ],
)
def test_fit_refuses_other_files_than_a_simulations(tmp_path, text, code, message):
    path = tmp_path / "points"
    if text is not None:
        path.write_text(text)
    result = CliRunner().invoke(main, ["fit", str(path)])
    assert result.exit_code == code
    assert message in result.output


@pytest.mark.slow
def test_a_killed_simulation_resumes(start, tmp_path):
    path = tmp_path / "points"
    words = [sys.executable, "-m", "channel.calibration", "simulate", path, "--blocks", "250"]
    lines = 1
    for _ in range(2):
        process = start(*words)
        before = path.read_bytes() if path.exists() else b""
        deadline = time.monotonic() + 120.0
        while not path.exists() or path.read_bytes().count(b"\n") < lines + 3:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert path.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
        lines = path.read_bytes().count(b"\n")
    whole = path.read_text().splitlines()[:lines]
    assert len(set(whole)) == len(whole)
