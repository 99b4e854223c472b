"""Every command in one table, so that `--help` and completion import none of them.

The text here must equal each command's own short help; a test compares them.
"""

from __future__ import annotations

COMMANDS: dict[str, tuple[str, str]] = {
    # name: (module in arbiter.cli, short help); the command is the module's function of that name
    "daemon": ("daemon", "Poll, record, decide and act; serve the API and the dashboard."),
    "demo": ("demo", "The daemon on a recorded market, with servers on loopback."),
    "poll": ("poll", "Ask the providers for their prices now."),
    "offers": ("offers", "Eligible offers now, cheapest first."),
    "prices": ("prices", "What prices were: history, percentiles, index, changes."),
    "plan": ("plan", "Show what would be done now."),
    "launch": ("launch", "Keep a model running."),
    "status": ("status", "Services, replicas, what they cost, and how fresh the prices are."),
    "explain": ("explain", "Why it was decided so: the record of a decision."),
    "scale": ("scale", "Change how many replicas of a service run, or what that follows."),
    "migrate": ("migrate", "Move a replica of a service elsewhere, without a gap."),
    "down": ("down", "End a service and its machines."),
    "pause": ("pause", "Stop acting; observing goes on."),
    "resume": ("pause", "Act again after a pause."),
    "backtest": ("backtest", "Run policies on a recorded market, side by side."),
    "chaos": ("chaos", "Bring faults upon a fleet on loopback, and count what they break."),
    "doctor": ("doctor", "What works, what is missing, and what to type next."),
}

PRICES: dict[str, tuple[str, str]] = {
    # `arbiter prices NAME`: (module in arbiter.cli.prices, short help)
    "history": ("history", "How prices went: every step, or a fixed grid."),
    "stats": ("stats", "Percentiles over time: for how long at which price."),
    "below": ("below", "For what share of the time a price was below X."),
    "index": ("index", "A cross-cloud median per GPU-hour, day by day."),
    "changes": ("changes", "Every change of a price, newest first."),
    "seasonality": ("seasonality", "The profile of a week, hour by hour."),
    "as-of": ("as_of", "What stood at an instant."),
    "export": ("export", "Recorded prices into a file: CSV, Parquet or XLSX."),
    "import": ("import_", "Past prices from a provider's own history, or from a file."),
    "rates": ("rates", "Reference rates of currencies: list, load, fetch."),
}
