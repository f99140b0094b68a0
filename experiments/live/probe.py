"""`splitfl radio probe`, imported when the command runs."""

import tomllib
from contextlib import ExitStack, closing
from pathlib import Path

from rich import box
from rich.table import Table

from channel.iq.sample_format import format_of
from channel.waveform.numerology import SMALLEST, Numerology
from splitfl.core.errors import ConfigError
from splitfl.core.quantities import scaled
from splitfl.runtime.terminal import plain_console
from testbed.radio.bridge_settings import radio_of
from testbed.radio.probe.findings import findings
from testbed.radio.probe.probe import ProbeReport, RadioProbe
from testbed.radio.radio import Radio, Tuning
from testbed.radio.recordings.file_radio import FileRadio, FileSettings
from testbed.radio.recordings.recording import Recorder, is_recording


def run(
    target: Path, *, seconds: float, fft_size: int | None, record: Path | None, picture: Path | None
) -> None:
    """Hears the radio, prints a table and sentences, and writes the recording and picture if asked to.

    Raises ConfigError for invalid settings, and with what makes a link over this radio impossible.
    """
    if picture is not None:
        from experiments.live import probe_picture

        probe_picture.require_suffix(picture)
    with ExitStack() as stack:
        radio, size, keeps_time = _opened(target)
        stack.enter_context(closing(radio))
        recorder = None
        if record is not None:
            recorder = stack.enter_context(closing(Recorder(record, radio.tuning, format_of("fc32"))))
        numerology = Numerology(fft_size=fft_size or size)
        report = RadioProbe(radio, numerology, recorder=recorder).look(seconds)
    console = plain_console()
    console.print(table(report, keeps_time=keeps_time))
    found = findings(report, keeps_time=keeps_time)
    for one in found:
        console.print(f"- {one.text}", soft_wrap=True)
    if picture is not None:
        probe_picture.write(picture, str(target), report)
    if refused := [one.text for one in found if one.refuses]:
        raise ConfigError(f"{target}: {len(refused)} of these make a link impossible: {refused[0]}")


def table(report: ProbeReport, *, keeps_time: bool) -> Table:
    """What was measured, a row for each quantity; its rate only of a radio that `keeps_time`."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=False)
    shown.add_column()
    shown.add_column()
    for name, value in _rows(report, keeps_time=keeps_time):
        shown.add_row(name, value)
    return shown


def _rows(report: ProbeReport, *, keeps_time: bool) -> list[tuple[str, str]]:
    statistics, radio, receiver = report.statistics, report.radio, report.receiver
    rows = [
        ("radio", _tuning_text(report.tuning)),
        ("samples", f"{statistics.count:,} in {report.seconds:.2f} s at {report.tuning.rate_hz:g} /s"),
        ("lost", f"{radio.lost_samples:,} samples in {radio.overflows:,} overflows"),
        ("level", f"{statistics.level_db:.1f} dBFS, peak {statistics.peak:.3g} of full scale"),
        ("floor, top", f"{statistics.floor_db:.1f} dBFS, {statistics.top_db:.1f} dBFS"),
        ("DC offset", f"{statistics.offset_db:.1f} dBFS"),
        (
            "preambles",
            f"{receiver.detections:,}, {receiver.false_alarms:,} of them false, "
            f"{receiver.bad_headers + receiver.unsupported:,} with bad headers",
        ),
        ("packets", f"{receiver.packets:,}, {receiver.bad_payloads:,} of them with errors"),
    ]
    if keeps_time:
        rows.insert(2, ("rate measured", f"{report.measured_rate_hz:.4g} /s on the wall clock"))
    if report.packets:
        snr_db, spacing_hz = report.snr_db, report.tuning.rate_hz / report.fft_size
        offset_hz = report.carrier_offset_hz
        rows += [
            ("SNR", f"{snr_db.mean():.1f} dB, {snr_db.min():.1f} to {snr_db.max():.1f}"),
            ("carrier offset", f"{offset_hz:+.1f} Hz, {offset_hz / spacing_hz:+.4f} subcarriers"),
            ("clock offset", f"{report.clock_ppm:+.1f} ppm"),
        ]
    return rows


def _tuning_text(tuning: Tuning) -> str:
    parts = [
        f"carrier {scaled(tuning.frequency_hz, 'Hz')}" if tuning.frequency_hz else "no carrier",
        f"gain {tuning.gain_db:g} dB" if tuning.gain_db is not None else "",
        f"antenna {tuning.antenna}" if tuning.antenna else "",
    ]
    return ", ".join(filter(None, parts))


def _opened(target: Path) -> tuple[Radio, int, bool]:
    """The radio, which may not send, the subcarriers in the settings, and whether it has a clock."""
    if is_recording(target):
        return FileRadio(FileSettings(reads=str(target))), SMALLEST.fft_size, False
    try:
        tables = tomllib.loads(target.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the settings of a radio from {target}: {error}") from None
    if not isinstance(tables.get("radio"), dict):
        raise ConfigError(f"{target} must have the table [radio]; have {', '.join(tables) or 'none'}")
    bridge = tables.get("bridge", {})
    size = bridge.get("fft_size", SMALLEST.fft_size) if isinstance(bridge, dict) else SMALLEST.fft_size
    kind, settings = radio_of(tables["radio"])
    return kind.open(settings, None), size, kind.is_on_air
