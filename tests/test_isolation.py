import socket
import sys

import psutil
import pytest


def test_no_test_can_reach_beyond_this_machine():
    with socket.socket() as opened, pytest.raises(RuntimeError, match="tests stay on this machine"):
        opened.connect(("192.0.2.1", 80))  # an address set aside for documentation, RFC 5737


def test_this_machine_itself_can_be_reached():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=5).close()


def test_torch_uses_one_thread():
    import torch

    assert torch.get_num_threads() == 1


@pytest.fixture
def outlived(tmp_path):
    """A list for process ids, which are looked for once `start`, asked for after it, is torn down."""
    process_ids: list[int] = []
    yield process_ids
    assert process_ids
    assert not any(psutil.pid_exists(process_id) for process_id in process_ids)


def test_no_process_outlives_its_test(outlived, start, tmp_path):
    code = "import subprocess; print(subprocess.Popen(['sleep', '60']).pid, flush=True)"
    pause = "import time; time.sleep(60)"
    said = tmp_path / "said"
    process = start(sys.executable, "-c", f"{code}; {pause}", output=said)
    while not said.read_text().strip():
        assert process.poll() is None
    outlived += [process.pid, int(said.read_text())]
