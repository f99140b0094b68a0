from channel.core.link import Transfer
from channel.links.fixed import Direction, FixedLink


def test_fixed_link_loses_the_same_packets_on_every_machine(golden):
    lossy = Direction(rate_bps=2e7, delay_s=0.005, loss_rate=0.3)
    link = FixedLink(seed=8, up=lossy, down=lossy, max_tries=3)
    asked = [
        Transfer(client=client, direction=direction, sequence=sequence, payload_bytes=50_000, start_s=1.5)
        for client in range(2)
        for direction in ("up", "down")
        for sequence in range(3)
    ]
    done = [link.transfer(one) for one in asked]
    golden(
        [
            {
                "lost": (~one.arrived).nonzero()[0].tolist(),
                "retransmissions": one.retransmissions,
                "airtime_s": one.airtime_s,
                "finish_s": one.finish_s,
                "energy_j": one.energy_j,
            }
            for one in done
        ]
    )
