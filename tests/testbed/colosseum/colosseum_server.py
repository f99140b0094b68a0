"""The server behind `colosseumcli` as its protocol has it: one JSON each way on a unix socket.

Messages and states after colosseumcli 19.0.0. A start is answered with 100, its start time comes later.
"""

import json
import socketserver
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

SCENARIOS: Mapping[int, int] = {1009: 10, 51005: 20}


class ColosseumServer:
    """Serves until the context exits. `refusals` are replies to commands instead of the usual ones."""

    def __init__(self, path: Path, *, polls_until_start: int = 1) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.requests: list[dict[str, Any]] = []
        self.refusals: dict[str, dict[str, Any]] = {}
        self.info: dict[str, Any] = {}
        self._polls = polls_until_start
        server = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                request = json.loads(self.request.recv(65536))
                server.requests.append(request)
                self.request.sendall(json.dumps(server.answer(request)).encode())

        self._server = socketserver.UnixStreamServer(str(path), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The reply to a message."""
        command = request["command"]
        if command in self.refusals:
            return self.refusals[command]
        if command == "rf_scenario_list":
            return _done([_row(number, nodes) for number, nodes in SCENARIOS.items()])
        if command == "rf_scenario_info":
            self._polls -= 1
            if self._polls <= 0 and self.info.get("scenario_status") == "SCHEDULED":
                self.info |= {"scenario_status": "ACTIVE", "scenario_start_time": 1760000000}
            return _done(self.info)
        if command == "rf_scenario_start":
            self.info = {
                "scenario_id": request["scenario_id"],
                "scenario_status": "SCHEDULED",
                "scenario_start_time": None,
                "scenario_cycle": request["scenario_cycle"],
                "srn_radio_mapping": request.get("srn_radio_mapping", {}),
            }
            return {"status": 100}
        assert command == "rf_scenario_stop"
        self.info |= {"scenario_status": "CLEARED"} if self.info else {}
        return {"status": 200}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self.path.unlink()


def _done(data: Any) -> dict[str, Any]:
    return {"status": 200, "data": json.dumps(data)}


def _row(number: int, nodes: int) -> dict[str, Any]:
    resources = {f"NODE {node}": 2 for node in range(1, nodes + 1)}
    return {
        "scenario_id": number,
        "title": f"scenario {number}",
        "radio_resources": resources,
        "center_freq": 1000000000,
        "scenario_cycle_compatible": True,
    }
