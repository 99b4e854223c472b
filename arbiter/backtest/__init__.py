"""The backtest: policies for spot machines, run on recorded markets.

    from pathlib import Path
    from arbiter.backtest import load_market, run

    market = load_market(Path("markets/aws-v100-9zones-2023a"))
    result = run(market, "spothedge:1", replicas=4, cold_start_s=360, with_bound=True)
    result.cost, result.missing, result.j, result.bound

A policy of one's own is a class with `tick(view)`, a generator of orders; `arbiter.backtest.view`
says what it sees and what it may order, `arbiter.backtest.peers` has examples, and
`arbiter.backtest.policies` gives it a name. Anything that makes one for a Setting can be run:

    result = run(market, MyPolicy, replicas=4, label="mine")
    result = run(market, lambda setting: MyPolicy(setting, patience=3), replicas=4)

Every run is accounted for twice, as it goes and from the list of its machines, and with a bound
it is checked that the run is not below it. The same arguments give the same result.
"""

from __future__ import annotations

from arbiter.backtest.conditions import Conditions
from arbiter.backtest.markets import Market, load_market
from arbiter.backtest.run import run
from arbiter.backtest.score import Result
from arbiter.backtest.view import (
    FOREVER,
    Buy,
    End,
    Factory,
    Instance,
    Launch,
    Orders,
    Policy,
    Probe,
    Setting,
    View,
    Zone,
)

__all__ = [
    "FOREVER",
    "Buy",
    "Conditions",
    "End",
    "Factory",
    "Instance",
    "Launch",
    "Market",
    "Orders",
    "Policy",
    "Probe",
    "Result",
    "Setting",
    "View",
    "Zone",
    "load_market",
    "run",
]
