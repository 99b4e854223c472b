"""How many machines, where, and bought how: the choice under preemption. Pure.

`learn` turns what happened into `Beliefs`; `next_step` turns beliefs and prices into the next
thing to do. The daemon's planner and the backtest call both. `docs/spot-policy.md` has the model.
"""
