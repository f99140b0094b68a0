"""Reader and writer of Colosseum's .mat file of a channel matrix.

Verified against the documentation named in `colosseum`: the names chMatrix, time, coordinates and origin;
rows are senders and columns receivers; times are in milliseconds, the last is a multiple of 1000 and repeats
the previous values; four taps with delay and iq; the static form with N x N gains of at most 0 dB. Not
verified, since no example file is public: whether a cell holds a struct with the fields delay and iq
(which is written here), a matrix of both, as "complex 2x4" may also mean, or whether the whole is one
struct array (all three are read). Users cannot install scenarios: Colosseum's operators need the file.

`loadmat` executes nothing, and anything but plain data is refused. Damage in a file of MATLAB version 7 is
detected by checksums; version 6 has none, and a damaged file can make scipy 1.17 crash.
"""

import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat, savemat  # type: ignore[import-untyped]
from scipy.io.matlab import MatReadError  # type: ignore[import-untyped]

from channel.core.arrays import Array, Complex
from channel.core.errors import BadParameter
from channel.propagation.recorded_taps import NodeTaps
from channel.scenario.colosseum import GRID_S, MAX_TAPS, OWN_DELAY_S, STEP_S, ChannelMatrix, require_limits

_NAMES = ("chMatrix", "time", "coordinates")
_DAMAGED = (
    EOFError,
    IndexError,
    KeyError,
    MatReadError,
    NotImplementedError,
    OSError,
    TypeError,
    ValueError,
    zlib.error,
)
"""Raised by scipy for a damaged or mislabelled file."""
_HDF_BEGINS = (b"MATLAB 7.3 MAT-file", b"\x89HDF")
_SAVE = "save it with save(..., '-v7')"
_OLD_NAMES = ("clusteredTapMatrix", "timestamps", "nodesPositions")


def write(path: Path, matrix: ChannelMatrix) -> None:
    """Writes the time-varying form in MATLAB 5 format."""
    taps = matrix.taps
    delay_NNTL, gain_NNTL = _four(taps)
    cells = np.empty(gain_NNTL.shape[:3], dtype=object)
    for place in np.ndindex(cells.shape):
        cells[place] = {"delay": delay_NNTL[place][None], "iq": gain_NNTL[place][None]}
    contents: dict[str, Any] = {"chMatrix": cells, "time": np.round(taps.time_s_T / STEP_S)[None]}
    if matrix.coordinates_m is not None:
        contents["coordinates"] = matrix.coordinates_m
    if matrix.origin is not None:
        contents["origin"] = {"long": matrix.origin[0], "lat": matrix.origin[1]}
    with path.open("wb") as file:
        savemat(file, contents, do_compression=True)


def write_static(path: Path, loss_db_NN: Array) -> None:
    """Writes the static form from constant losses (N, N) of at least 0 dB. Errors as in `static_taps`."""
    static_taps(-np.asarray(loss_db_NN, dtype=np.float64))
    with path.open("wb") as file:
        savemat(file, {"chMatrix": -np.asarray(loss_db_NN, dtype=np.float64)})


def _four(taps: NodeTaps) -> tuple[Array, Complex]:
    """Exactly four delays and gains per link, zero-padded; of more, those of nonzero taps."""
    is_there = taps.gain_NNTL != 0.0
    order = np.argsort(~is_there & (is_there.shape[-1] > MAX_TAPS), axis=-1, kind="stable")[..., :MAX_TAPS]
    missing = [(0, 0)] * 3 + [(0, MAX_TAPS - order.shape[-1])]
    delay = np.take_along_axis(np.where(is_there, taps.delay_s_NNTL, 0.0), order, axis=-1)
    return np.pad(delay, missing), np.pad(np.take_along_axis(taps.gain_NNTL, order, axis=-1), missing)


def static_taps(gain_db_NN: Array) -> NodeTaps:
    """One constant tap per link. Raises BadParameter for gains above 0 dB or an array that is not square."""
    shape = np.shape(gain_db_NN)
    if len(shape) != 2 or shape[0] != shape[1]:
        raise BadParameter(f"gains in decibels must be a square, got shape {shape}")
    gain = 10.0 ** (np.asarray(gain_db_NN, dtype=np.float64) / 20.0)
    taps = NodeTaps(
        time_s_T=np.asarray([0.0, 1.0]),
        delay_s_NNTL=np.zeros((*shape, 2, 1)),
        gain_NNTL=np.repeat(gain[:, :, None, None], 2, axis=2).astype(np.complex128),
    )
    require_limits(taps)
    return taps


def read(path: Path) -> ChannelMatrix:
    """A channel matrix from a .mat file of either form, or with the older names of the Venice converter.

    Delays within 1 ns of a grid point are snapped to it. Raises BadParameter for undocumented contents and
    exceeded limits, OSError if the file cannot be read.
    """
    with path.open("rb") as file:
        try:
            found = loadmat(file, struct_as_record=True, squeeze_me=False)
        except _DAMAGED as error:
            file.seek(0)
            is_hdf = file.read(len(_HDF_BEGINS[0])).startswith(_HDF_BEGINS)
            why = f"got one of version 7.3: {_SAVE}" if is_hdf else str(error)
            raise BadParameter(f"{path.name} must be a MATLAB file of format 5: {why}") from error
    names = _NAMES if _NAMES[0] in found else _OLD_NAMES
    if names[0] not in found:
        have = ", ".join(name for name in found if not name.startswith("__")) or "nothing"
        raise BadParameter(f"{path.name} must hold chMatrix, got {have}")
    cells = found[names[0]]
    if cells.dtype.names and set(cells.dtype.names) != {"delay", "iq"}:
        raise BadParameter(
            f"{names[0]} must be real numbers, cells, or a struct array of delay and iq, got an array with "
            f"{', '.join(cells.dtype.names)}: make cells of it, and {_SAVE}"
        )
    if cells.dtype != object and not cells.dtype.names:
        return ChannelMatrix(taps=static_taps(_real("chMatrix", cells)))
    time_ms = _real("time", found.get(names[1], np.asarray([0.0, 1000.0]))).ravel()
    taps = _completed(_taps(cells, time_ms), time_ms)
    where = found.get(names[2])
    is_new = where is not None and where.dtype != object
    return ChannelMatrix(
        taps=taps,
        coordinates_m=_held(_real("coordinates", where), taps.time_s_T.size) if is_new else None,
        origin=_origin(found.get("origin")),
    )


def _taps(cells: Any, time_ms: Array) -> tuple[Array, Complex]:
    grid = cells[:, :, None] if cells.ndim == 2 else cells
    if grid.ndim != 3 or grid.shape[0] != grid.shape[1]:
        raise BadParameter(f"chMatrix must be nodes x nodes x times cells, got shape {cells.shape}")
    delay = np.zeros((*grid.shape, MAX_TAPS))
    gain = np.zeros((*grid.shape, MAX_TAPS), dtype=np.complex128)
    for place in np.ndindex(grid.shape):
        ends, heights = _cell(grid[place])
        if ends.size != heights.size or ends.size > MAX_TAPS:
            got = f"{ends.size} delays and {heights.size} iq"
            raise BadParameter(f"a cell of chMatrix must have at most {MAX_TAPS} taps, got {got}")
        delay[place][: ends.size], gain[place][: ends.size] = ends, heights
    if grid.shape[2] == 1 and time_ms.size == 2:
        delay, gain = (np.repeat(one, 2, axis=2) for one in (delay, gain))
    return delay, gain


def _cell(cell: Any) -> tuple[Array, Complex]:
    """Delays and gains from a struct with those names, or from a matrix with a row or a column for each."""
    inner = cell
    while inner.dtype == object or (inner.dtype.names == ("tap",)):
        if inner.size != 1:
            raise BadParameter(f"a cell of chMatrix must hold one element, got {inner.size}")
        inner = inner.ravel()[0] if inner.dtype == object else inner["tap"].ravel()[0]
    if inner.dtype.names:
        if set(inner.dtype.names) != {"delay", "iq"} or inner.size != 1:
            raise BadParameter(
                f"a cell of chMatrix must have delay and iq, got {', '.join(inner.dtype.names)}"
            )
        record = inner.ravel()[0]
        return _real("delay", record["delay"]).ravel(), np.asarray(record["iq"]).astype(np.complex128).ravel()
    pair = inner if inner.ndim == 2 and inner.shape[0] == 2 else inner.T
    if pair.ndim != 2 or pair.shape[0] != 2:
        raise BadParameter(f"a cell of chMatrix must have delay and iq, got an array of shape {inner.shape}")
    return _real("delay", pair[0].real), pair[1].astype(np.complex128)


def _completed(rows: tuple[Array, Complex], time_ms: Array) -> NodeTaps:
    """The taps with a last time of whole seconds that repeats the previous values, as documented."""
    delay, gain = rows
    if time_ms.size != gain.shape[2]:
        raise BadParameter(f"time must have {gain.shape[2]} values as chMatrix has, got {time_ms.size}")
    end_ms = 1000.0 * max(math.ceil(time_ms[-1] / 1000.0 - 1e-9), 1) if time_ms.size else 0.0
    if time_ms.size and time_ms[-1] != end_ms:
        time_ms = np.append(time_ms, end_ms)
        delay, gain = (np.concatenate([one, one[:, :, -1:]], axis=2) for one in (delay, gain))
    on_grid = np.round(delay / GRID_S) * GRID_S
    near = np.abs(on_grid - delay) <= OWN_DELAY_S * 1.001
    return NodeTaps(time_s_T=time_ms * STEP_S, delay_s_NNTL=np.where(near, on_grid, delay), gain_NNTL=gain)


def _held(coordinates_m: Array, times: int) -> Array:
    """The coordinates, extended by one row if a last time was added."""
    if coordinates_m.ndim == 3 and coordinates_m.shape[2] == times - 1:
        return np.concatenate([coordinates_m, coordinates_m[:, :, -1:]], axis=2)
    return coordinates_m


def _origin(found: Any) -> tuple[float, float] | None:
    if found is None:
        return None
    if found.size != 1 or not {"long", "lat"} <= set(found.dtype.names or ()):
        raise BadParameter("origin must be one struct with long and lat, got something else")
    record = found.ravel()[0]
    longitude, latitude = (float(_real(name, record[name]).ravel()[0]) for name in ("long", "lat"))
    return longitude, latitude


def _real(name: str, values: Any) -> Array:
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise BadParameter(f"{name} must be real numbers, got {array.dtype}")
    return array.astype(np.float64)
