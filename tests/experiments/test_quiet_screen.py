"""What torch's C++ side says of a lost peer is not for the person at the screen."""

import os
import socket
import subprocess
import sys
import threading

import pytest


@pytest.mark.slow
def test_a_server_that_hangs_up_is_one_sentence_on_the_screen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            for _ in range(40):
                try:
                    opened, _ = listener.accept()
                except OSError:
                    return
                opened.close()

        threading.Thread(target=hang_up, daemon=True).start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        environment = {name: value for name, value in os.environ.items() if name != "TORCH_CPP_LOG_LEVEL"}
        command = [sys.executable, "-m", "experiments", "join", address, "--client", "0", "--timeout", "1"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"Error: {address} answers, but not as a splitfl server does")
