"""Chaos as a tool: the real loop, gateway and servers on loopback, under a seeded set of faults.

`world` is what a run stands on, `worker` the process that ticks and is killed, `load` its clients,
`conductor` what brings the faults and watches, `invariants` what must hold all the same. `drills`
bring one kind of fault at a time, and measure what clients see of it.
"""
