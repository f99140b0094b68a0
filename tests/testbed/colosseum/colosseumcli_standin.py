"""A stand-in for `colosseumcli` 19.0.0: what it sends, prints and returns, as observed; its socket by path.

`colosseumcli_standin.py SOCKET rf start 1009 [-m MAP] [-c] | rf stop | rf info | rf radiomap | ...`
"""

import json
import socket
import sys
import time
from pathlib import Path
from typing import Any

TIME = "08:53:20"


def ask(path: str, command: str, **words: Any) -> dict[str, Any]:
    """One JSON each way in one message."""
    with socket.socket(socket.AF_UNIX) as end:
        try:
            end.connect(path)
        except OSError:
            print("ERROR: colosseumcli can not connect to server.")
            sys.exit("'status'")
        end.sendall(json.dumps({"version": "3.0", "command": command, **words}).encode())
        found: dict[str, Any] = json.loads(end.recv(1 << 20))
        return found


def start(path: str, number: str, *options: str) -> None:
    words: dict[str, Any] = {"scenario_id": int(number), "scenario_cycle": "-c" in options}
    if "-m" in options:
        table = json.loads(Path(options[options.index("-m") + 1]).read_text())
        words["srn_radio_mapping"] = table
    reply = ask(path, "rf_scenario_start", **words)
    if reply["status"] != 100:
        print("Colosseum failed to schedule the scenario at the Resource Manager")
        print(reply["message"])
        return  # with exit status 0
    while True:
        time.sleep(0.05)
        data = json.loads(ask(path, "rf_scenario_info")["data"])
        if data["scenario_status"] in ("COMPLETED", "ABORTED", "CLEARED", "ERROR"):
            print("Colosseum failed to schedule the scenario at the Scenario Conductor")
            return
        if data["scenario_start_time"] is not None:
            print(f"Scenario Start Time is {TIME}")
            return


def stop(path: str) -> None:
    if ask(path, "rf_scenario_stop")["status"] == 200:
        print("RF Stop command has been successfully sent")
        print("Check rf info for more information")


def info(path: str) -> None:
    reply = ask(path, "rf_scenario_info")
    if reply["status"] != 200:
        print(f"{reply['message']}\n{{}}")
        return
    data = json.loads(reply["data"])
    if data and data["scenario_start_time"] is None:
        sys.exit("int() argument must be a string, a bytes-like object or a real number, not 'NoneType'")
    row = {
        "scenario_id": str(data.get("scenario_id", "")),
        "scenario_status": data.get("scenario_status", ""),
        "scenario_start_time": TIME if data else "",
        "scenario_cycle": data.get("scenario_cycle", ""),
        "Number of Nodes": str(len(data["srn_radio_mapping"])) if data else "",
    }
    print(json.dumps(row, indent=2))


def radiomap(path: str) -> None:
    data = json.loads(ask(path, "rf_scenario_info")["data"])
    if "srn_radio_mapping" not in data:
        sys.exit("'srn_radio_mapping'")
    unused = {"SRN": "None", "RadioA": 0, "RadioB": 0}
    rows = [
        {"Node": node, **(unused if radios == "None" else radios)}
        for node, radios in data["srn_radio_mapping"].items()
    ]
    print(json.dumps(rows, indent=2))


def nodelist(path: str, number: str) -> None:
    for row in json.loads(ask(path, "rf_scenario_list")["data"]):
        if row["scenario_id"] == int(number):
            print(json.dumps([{"Node": node, "Number of Antennas": 2} for node in row["radio_resources"]]))
            return
    print("[]")


def main() -> None:
    path, _, command, *words = sys.argv[1:]
    words = [word for word in words if word not in ("-f", "json")]
    if command == "scenario":
        command, *words = words
    {"start": start, "stop": stop, "info": info, "radiomap": radiomap, "nodelist": nodelist}[command](
        path, *words
    )


if __name__ == "__main__":
    main()
