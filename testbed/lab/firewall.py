"""The nftables rules of a lab's firewall."""

from testbed.lab.plan import Allow, LabNode, LabPlan


def ruleset(plan: LabPlan, router: LabNode) -> str:
    """The input of `nft -f` in a closed router: replies and allowed connections pass, others are counted."""
    allowed = [f"    {_line(plan, rule)}" for rule in plan.rules]
    end = "reject with icmp type admin-prohibited" if router.refuses else "drop"
    return "\n".join(
        [
            "table ip lab {",
            "  counter blocked { }",
            "  chain forward {",
            "    type filter hook forward priority 0; policy drop;",
            "    ct state established,related accept",
            *allowed,
            f'    counter name "blocked" {end}',
            "  }",
            "}",
            "",
        ]
    )


def _line(plan: LabPlan, rule: Allow) -> str:
    source, target = (
        ", ".join(sorted({address for who in side for address in plan.addresses_of(who)}))
        for side in (rule.sources, rule.targets)
    )
    ports = f" tcp dport {{ {', '.join(map(str, rule.ports))} }}" if rule.ports else ""
    return f"ip saddr {{ {source} }} ip daddr {{ {target} }}{ports} accept"
