"""Files of a batch job that cannot be rehearsed."""

from dataclasses import replace
from pathlib import Path

import pytest

from channel.links.fixed import Direction, FixedLink
from splitfl.core.errors import ConfigError
from testbed.colosseum.batch_plan import BatchPlan
from testbed.colosseum.radio_conf import RadioConf
from testbed.colosseum.rehearse import rehearse
from testbed.colosseum.rules import Rules
from tests.testbed.colosseum.test_batch_file import batch

AIR = FixedLink(seed=0, up=Direction(), down=Direction())
SERVER = RadioConf(node="base", role="server", address="172.16.0.1", run="true")
CLIENT = RadioConf(node="ue", role="client", run="true")


def test_a_rehearsal_refuses_what_the_emulated_channel_cannot_have(tmp_path: Path) -> None:
    for server, message in (
        (replace(SERVER, address="172.16.0.7"), "the first address of its network, 172.16.0.1"),
        (replace(SERVER, loops=2), r"node-1\.conf: loops must be the batch's 1, got 2"),
        (replace(SERVER, role="client"), "one server and at least one other node, got 0"),
    ):
        confs = {"node-1.conf": server, "node-2.conf": CLIENT}
        BatchPlan(batch=batch(), confs=confs).write(tmp_path)
        with pytest.raises(ConfigError, match=message):
            rehearse(tmp_path, "demo", AIR, tmp_path, rules=Rules())
    (tmp_path / "config/node-1.conf").unlink()
    with pytest.raises(ConfigError, match=r"node-1\.conf: .*No such file"):
        rehearse(tmp_path, "demo", AIR, tmp_path, rules=Rules())
