"""How far arbiter's estimate of tokens per second is from what was measured, beside naive peers.

The measurements are typed in (benchmarks/_throughput_facts.py); nothing is run on a GPU. Each side
has one free figure for AccelMark's rows, chosen on the other GPUs of the table and never on the one
that it is judged by: ours how many of its burst of a hundred requests are in flight on average; a
peer the factor between its figure and tokens per second. The other rows have no free figure at all:
the peers keep the factor of AccelMark's.

The peers: tokens a second in proportion to memory bandwidth over the weights' size, and to 16 bit
compute over the model's parameters.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import ceil, log

from _report import Row, arguments, report, row
from _throughput_facts import (
    ACCELMARK,
    AWQ,
    BF16,
    FP8,
    KNOWN,
    MAX_NUM_SEQS,
    MODELS,
    OTHERS,
    SINGLE_MS,
    Measured,
)

from arbiter.profiles import Profile, Quantization, Serving, Variant, Workload
from arbiter.roofline import weights_bytes
from arbiter.sizing import Fit, fit_on

IN_FLIGHT = range(20, 101, 5)
"""Of a burst of a hundred: what is tried as the mean number in flight."""

UTILIZATION = 0.9  # vLLM's share of memory when these were measured

Estimate = Callable[[Measured], float]


@dataclass(frozen=True)
class Pair:
    """A measurement, and what was estimated in its place: ours, and each peer's."""

    measured: Measured
    ours: float
    peers: dict[str, float]

    def error(self, side: str | None = None) -> float:
        """Share by which the estimate is off, of ours or a peer's."""
        estimate = self.ours if side is None else self.peers[side]
        return abs(estimate / self.measured.tokens_per_s - 1)


def sized(one: Measured, at_once: int) -> float | None:
    """Our estimate with so many sequences decoded together; None where it would not fit."""
    profile = Profile(
        name="measured",
        description="",
        architecture=MODELS[one.model],
        variants=(Variant(one.quantization, "published/model"),),
        workload=Workload(1024, at_once, one.input_tokens, one.output_tokens),
        serving=Serving(gpu_memory_utilization=UTILIZATION),
    )
    found = fit_on(profile, KNOWN[one.gpu], one.count)
    return float(found.tokens_per_s) if isinstance(found, Fit) else None


def by_bandwidth(one: Measured) -> float:
    """A figure in proportion to bandwidth over weights."""
    weights = weights_bytes(MODELS[one.model], Variant(one.quantization, ""))
    return one.count * KNOWN[one.gpu].bandwidth_gbs * 1e9 / weights


def by_compute(one: Measured) -> float:
    """A figure in proportion to 16 bit compute over parameters."""
    return one.count * KNOWN[one.gpu].tflops_16 / MODELS[one.model].parameters_b


PEERS: dict[str, Estimate] = {"memory bandwidth": by_bandwidth, "16 bit compute": by_compute}


def accelmark(title: str) -> list[Pair]:
    """A column of AccelMark, each row judged with what was chosen without its GPU."""
    pairs = []
    for one in ACCELMARK[title]:
        flight = best_in_flight(one.gpu)
        others = [other for other in ACCELMARK[title] if other.gpu != one.gpu]
        peers = {name: figure(one) * factor(figure, others) for name, figure in PEERS.items()}
        estimate = sized(one, flight)
        if estimate is None:
            raise SystemExit(f"{one} was measured, and does not fit: sizing is wrong")
        pairs.append(Pair(one, estimate, peers))
    return pairs


def others() -> list[Pair]:
    """The rows that took part in no fit; the peers' factor is that of all of AccelMark's 8B."""
    base = [one for title in ("8B bf16", "8B fp8", "8B 4 bit") for one in ACCELMARK[title]]
    factors = {name: factor(figure, base) for name, figure in PEERS.items()}
    pairs = []
    for one in OTHERS:
        estimate = sized(one, min(one.at_once, MAX_NUM_SEQS.get(one.gpu, 256)))
        if estimate is None:
            raise SystemExit(f"{one} was measured, and does not fit: sizing is wrong")
        peers = {name: figure(one) * factors[name] for name, figure in PEERS.items()}
        pairs.append(Pair(one, estimate, peers))
    return pairs


def best_in_flight(left_out: str | None) -> int:
    """The number in flight that is right on geometric average in the first column, without a GPU.

    As a peer's factor is chosen. In the first column alone: the load is that of all columns, and
    the formula is at its best there.
    """
    known = [one for one in ACCELMARK["8B bf16"] if one.gpu != left_out]

    def off(flight: int) -> float:
        found = ((sized(one, flight), one.tokens_per_s) for one in known)
        ratios = [estimate / rate for estimate, rate in found if estimate is not None]
        return abs(log(statistics.geometric_mean(ratios)))

    return min(IN_FLIGHT, key=off)


def factor(figure: Estimate, rows: Iterable[Measured]) -> float:
    """What makes a peer's figure right on geometric average."""
    return statistics.geometric_mean(one.tokens_per_s / figure(one) for one in rows)


def ninth_tenth(errors: Sequence[float]) -> float:
    """The error that nine of ten do not exceed."""
    return sorted(errors)[ceil(0.9 * len(errors)) - 1]


def kendall_tau(pairs: Sequence[Pair], side: str | None = None) -> float:
    """Agreement of the order of GPUs: 1 is the measured order, -1 its reverse. Ties count half."""

    def estimate(pair: Pair) -> float:
        return pair.ours if side is None else pair.peers[side]

    score = 0
    for one, other in combinations(pairs, 2):
        measured = one.measured.tokens_per_s - other.measured.tokens_per_s
        score += _sign(measured * (estimate(one) - estimate(other)))
    return score / (len(pairs) * (len(pairs) - 1) / 2)


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def in_order(pairs: Sequence[Pair]) -> list[Pair]:
    """One row for each GPU: the first of those that were measured twice."""
    return list({pair.measured.gpu: pair for pair in reversed(pairs)}.values())


def table(title: str, pairs: Sequence[Pair]) -> None:
    """Print every row, so that nobody has to trust a median."""
    print(f"{title}: measured, ours / measured, then the peers'")
    for pair in pairs:
        one = pair.measured
        rate = one.tokens_per_s
        theirs = "  ".join(f"{name} {value / rate:.2f}" for name, value in pair.peers.items())
        where = f"{one.model} {one.quantization} on {one.gpu} x{one.count}, vLLM {one.vllm}"
        print(f"  {where:<58} {rate:>7.0f}  {pair.ours / rate:.2f}  {theirs}")


def rows_of(
    title: str, pairs: Sequence[Pair], goals: tuple[float | None, float | None]
) -> list[Row]:
    """Median and ninth tenth of the error, beside each peer's."""
    ours = [pair.error() for pair in pairs]
    found = []
    for name in PEERS:
        theirs = [pair.error(name) for pair in pairs]
        for what, of, goal in (
            ("median", statistics.median, goals[0]),
            ("ninth tenth of the", ninth_tenth, goals[1]),
        ):
            found.append(
                row(
                    f"{what} error, {title}",
                    f"{len(pairs)} rows",
                    [100 * of(ours)],
                    "%",
                    peer=name,
                    theirs=[100 * of(theirs)],
                    goal=goal,
                )
            )
    return found


def orders(title: str, pairs: Sequence[Pair], goal: float | None) -> list[Row]:
    """Pairs of GPUs in the wrong order, beside each peer's."""
    each = in_order(pairs)

    def wrong(side: str | None) -> float:
        return 50 * (1 - kendall_tau(each, side))

    tau = f"Kendall tau {kendall_tau(each):.2f}"
    return [
        row(
            f"pairs of GPUs in the wrong order, {title}",
            f"{len(each)} GPUs, {tau}",
            [wrong(None)],
            "%",
            peer=name,
            theirs=[wrong(name)],
            goal=goal,
        )
        for name in PEERS
    ]


def single() -> Row:
    """One sequence alone: milliseconds per output token of the 8B model in bf16."""
    errors = []
    for gpu, measured_ms, vllm in SINGLE_MS:
        one = Measured("A", "Llama-3.1-8B", BF16, gpu, 1, 0, 1, 255, 344, vllm)
        rate = sized(one, 1)
        if rate is not None:
            errors.append(abs(1000 / rate / measured_ms - 1))
    return row(
        "median error, time per token of one sequence", f"{len(errors)} rows",
        [100 * statistics.median(errors)], "%",
    )  # fmt: skip


def main() -> None:
    given = arguments(__doc__)
    columns = {title: accelmark(title) for title in ACCELMARK}
    independent = others()
    flights = sorted({best_in_flight(one.gpu) for one in ACCELMARK["8B bf16"]})
    print(f"in flight of AccelMark's hundred, chosen without the GPU that is judged: {flights}")
    if not given.quick:
        for title, pairs in columns.items():
            table(title, pairs)
        table("no part of any fit", independent)
    everything = [pair for pairs in (*columns.values(), independent) for pair in pairs]
    found: list[Row] = []
    for stored in (BF16, FP8, AWQ):
        of_kind = [pair for pair in everything if pair.measured.quantization is stored]
        found += rows_of(f"all rows of {stored}", of_kind, GOALS.get(stored, (None, None)))
    for title, pairs in columns.items():
        found += rows_of(f"AccelMark {title}", pairs, (None, None))
        found += orders(f"AccelMark {title}", pairs, ORDER_GOAL if title == "8B bf16" else None)
    found += rows_of("no part of any fit", independent, INDEPENDENT_GOAL)
    found.append(single())
    report(found, given.json)


GOALS: dict[Quantization, tuple[float | None, float | None]] = {
    BF16: (20.0, 60.0),
    FP8: (20.0, 60.0),
}
"""Per cent. A buyer who compares two offers 20 % apart wants an error of that size at most."""

ORDER_GOAL = 10.0
INDEPENDENT_GOAL = (34.0, None)
"""What the same formula was found to do on other independent rows."""


if __name__ == "__main__":
    main()
