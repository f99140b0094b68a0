import pytest

from channel.calibration.journal import Journal
from channel.calibration.simulation import BlerCurve
from channel.calibration.sweep import Point
from channel.core.errors import BadParameter

HEAD = {"seed": 0, "iterations": 20}
POINTS = [
    Point(BlerCurve(2, 120.0, 1000), snr_db, 500, errors) for snr_db, errors in ((-6.0, 240), (-5.8, 90))
]


def written(path, points=POINTS):
    with Journal(path, HEAD) as journal:
        for point in points:
            journal.add(point)
    return path


def test_a_second_run_reuses_the_points_of_the_first(tmp_path):
    path = written(tmp_path / "points")
    with Journal(path, HEAD) as journal:
        assert [journal.known(point.curve, point.snr_db) for point in POINTS] == POINTS
        assert journal.known(POINTS[0].curve, 7.0) is None
        journal.add(POINTS[0])
    assert path.read_text().count("\n") == 3


@pytest.mark.parametrize("kept", [1, 20, 60, 100])
def test_a_partial_last_line_is_rewritten(tmp_path, kept):
    path = written(tmp_path / "points")
    whole = path.read_bytes()
    path.write_bytes(whole[:-kept])
    written(path)
    assert path.read_bytes() == whole


def test_a_file_without_a_complete_line_starts_over(tmp_path):
    path = tmp_path / "points"
    path.write_text('{"seed": 0, "blo')
    assert written(path).read_text() == written(tmp_path / "other").read_text()


def test_two_at_once_are_refused(tmp_path):
    path = tmp_path / "points"
    with Journal(path, HEAD), pytest.raises(BadParameter, match="is being written by another process"):
        Journal(path, HEAD)
    written(path)


@pytest.mark.parametrize("line", ["nonsense", "[1, 2]", '{"snr_db": 1.0}'])
def test_a_file_of_something_else_is_refused(tmp_path, line):
    path = written(tmp_path / "points")
    path.write_text(f"{path.read_text()}{line}\n")
    with pytest.raises(BadParameter, match="must be the JSON lines of a simulation"):
        Journal(path, HEAD)


def test_points_that_were_made_otherwise_are_not_mixed(tmp_path):
    path = written(tmp_path / "points")
    with pytest.raises(BadParameter, match=r"must have been made with \{'seed': 1\}, got \{'seed': 0"):
        Journal(path, {"seed": 1})
