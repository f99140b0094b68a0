"""An experiment over the waveform: samples between network namespaces of this machine."""

from dataclasses import replace
from typing import Any

from channel.core.clock import WallClock
from channel.core.errors import ChannelError
from channel.scenario.load import Scenario, changed, load
from experiments.live.radio_figures import RECORD, totals
from experiments.live.radio_screen import RadioScreen
from experiments.live.run import check_supported, saved, serve_in
from splitfl.config import RunConfig
from splitfl.controller.dry_run import run_dry
from splitfl.core.errors import ConfigError
from splitfl.core.quantities import bytes_text, rate_text, seconds_text
from splitfl.runtime.screen import Screen
from splitfl.runtime.serve import Ended, NewFolder
from splitfl.server.run import write_json
from splitfl.setup.experiment import Experiment
from testbed.namespaces import need_root
from testbed.radio.modem import ModemSettings
from testbed.radio.radio_link import RadioLink, RadioLinkSettings

_STEPS = 8
"""Of the dry run that tells the sizes of messages."""


def run_radio(experiment: Experiment, name: str, new_folder: NewFolder, screen: Screen) -> Ended:
    """Runs server and clients over the channel of the scenario `name`, client k being its user k.

    The summary's `radio` has totals, the file RECORD the details. Raises NotRoot without root, ConfigError
    for a scenario with too few users, settings that the waveform does not support, and messages that it
    cannot carry in time.
    """
    check_supported(experiment.config)
    scenario, settings = scenario_of(experiment.config, name), settings_of(experiment.config)
    need_root("runs over the waveform")
    require_time(experiment, settings)
    with RadioLink(scenario, settings) as link:
        shown = RadioScreen(screen, link, WallClock())
        folder, summary = serve_in(link.server, link.addresses[0], link, experiment, new_folder, shown)
        measured: dict[str, Any] = {"scenario": name, "mcs": settings.modem.mcs, **link.finish()}
    write_json(folder / RECORD, measured)
    return folder, saved(folder, {**summary, "radio": totals(measured)})


def scenario_of(config: RunConfig, name: str) -> Scenario:
    """The scenario with the run's seed and a user for each client. Raises ConfigError."""
    clients = config.federation.clients
    try:
        scenario = load(name)
        if clients > scenario.place.users:
            users = scenario.place.users
            raise ConfigError(
                f"federation.clients must be at most the {users} users of {name}, got {clients}"
            )
        return replace(changed(scenario, {"place": {"users": clients}}), seed=config.train.seed)
    except ChannelError as error:
        raise ConfigError(f"--radio {name}: {error}") from None


def settings_of(config: RunConfig) -> RadioLinkSettings:
    """The settings in [radio] and [live]. Raises ConfigError for values that the modem does not offer."""
    own = config.radio
    try:
        modem = ModemSettings(mcs=own.mcs, fft_size=own.fft_size, longest=own.mtu_bytes)
    except ChannelError as error:
        raise ConfigError(f"[radio] {error}") from None
    return RadioLinkSettings(rate_hz=own.rate_hz, modem=modem, congestion=config.live.congestion)


def require_time(experiment: Experiment, settings: RadioLinkSettings) -> None:
    """Raises ConfigError if the messages of a step take longer than the server waits for a client.

    In both directions all clients share the rate of the waveform, which is at best that of longest packets
    without a pause or an error.
    """
    config = experiment.config
    clients, patience_s = config.federation.clients, config.transport.timeout_s
    short = replace(config, federation=replace(config.federation, rounds=1, local_steps=_STEPS))
    sent = run_dry(replace(experiment, config=short)).ledger.total()
    step_bytes = sent.payload_bytes / (_STEPS * clients)
    seconds = 8.0 * step_bytes * clients / settings.phy_bps
    if seconds > patience_s:
        raise ConfigError(
            f"the messages of a step have {bytes_text(step_bytes)} and take {seconds_text(seconds)} or more "
            f"where {clients} clients share {rate_text(settings.phy_bps)}, but transport.timeout_s is "
            f"{patience_s:g}: set radio.rate_hz or radio.mcs higher, compress ([codec]), or wait longer"
        )
