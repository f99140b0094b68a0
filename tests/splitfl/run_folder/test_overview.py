"""The rows that a terminal or a notebook shows of a finished run."""

from splitfl.run_folder.overview import overview

SUMMARY = {
    "transport": "inproc",
    "final": {"accuracy": 0.5},
    "bytes_up": 1000,
    "bytes_down": 2000,
    "packets": 3,
    "retransmissions": 0,
    "airtime_s": 1.0,
    "virtual_s": 2.0,
    "wall_s": 3.0,
    "client_flops": 1e9,
    "server_flops": 2e9,
    "client_peak_bytes": None,
}


def test_what_attacks_recovered_stands_beside_a_constant_guess() -> None:
    leaks = {"linear": {"value": 0.986, "chance": 0.148}, "label-norm": {"value": 0.5, "chance": None}}
    rows = dict(overview({**SUMMARY, "leaks": leaks}))
    assert rows["recovered by linear"] == "98.6 % (a constant guess: 14.8 %)"
    assert rows["recovered by label-norm"] == "50.0 %"


def test_a_run_without_probes_has_no_such_row() -> None:
    assert not [name for name, _ in overview({**SUMMARY, "leaks": None}) if name.startswith("recovered")]
