"""Reading somebody's file of prices: every shape that is meant, and every fault with its line."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arbiter.price_files import rows as rows_module
from arbiter.price_files.contract import BadFile, Reading, parse_renamed, parse_value
from arbiter.price_files.machines import Machines
from arbiter.price_files.reading import SKIP, STOP, Read, extent, read_file
from arbiter.provider import ProviderSettings
from arbiter.regions import load_atlas
from arbiter.store.spool import LAST_SECOND, OPEN, TIME_BITS, PastPrices, SeriesFacts

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
HEADER = (
    "provider,region,instance_type,gpu,gpu_count,purchase,currency,price_hour,valid_from,valid_to"
)
GOOD = "aws,eu-north-1,g6.xlarge,L4,1,spot,USD,0.5,2026-10-01T00:00:00Z,2026-10-02T00:00:00Z"
OCTOBER = int(datetime(2026, 10, 1, tzinfo=UTC).timestamp())


class Found(NamedTuple):
    """What was read.

    Attributes:
        rows: (series, from, to, micros, source).
    """

    read: Read
    series: list[SeriesFacts]
    rows: list[tuple[SeriesFacts, int, int, int, str]]


def read(
    path: Path,
    *,
    on_error: str = STOP,
    known: dict[tuple[str, str], tuple[str, int]] | None = None,
    told: Any = None,
    **reading: Any,
) -> Found:
    with PastPrices() as past:
        done = read_file(
            path,
            Reading(**reading),
            past,
            NOW,
            load_atlas(),
            Machines(known or {}, lambda _name: ProviderSettings()),
            on_error=on_error,
            told=told,
        )
        rows = [
            (
                past.series[begin >> TIME_BITS],
                begin & LAST_SECOND,
                until,
                micros,
                past.origins[origin].source,
            )
            for chunk in past.chunks()
            for begin, until, micros, origin in chunk.tolist()
        ]
        return Found(done, past.series, rows)


def csv(folder: Path, *lines: str, name: str = "prices.csv") -> Path:
    path = folder / name
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def with_field(number: int, value: str) -> str:
    fields = GOOD.split(",")
    fields[number] = value
    return ",".join(fields)


# --- what is meant ----------------------------------------------------------------------------


def test_a_row_is_a_price_and_when_it_stood(tmp_path: Path) -> None:
    found = read(csv(tmp_path, HEADER, GOOD))
    assert found.rows == [
        (
            SeriesFacts(
                "aws", "standard", "eu-north-1", "", "g6.xlarge", "spot", "USD", "L4", 1,
                "prices.csv",
            ),
            OCTOBER,
            OCTOBER + 86_400,
            500_000,
            "prices.csv",
        )
    ]  # fmt: skip
    assert (found.read.rows, found.read.gaps, found.read.left_out.rows) == (1, 0, 0)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_commas_semicolons_tabs_and_marks_of_encoding(
    tmp_path: Path, separator: str, mark: str
) -> None:
    lines = [mark + HEADER.replace(",", separator), GOOD.replace(",", separator)]
    assert len(read(csv(tmp_path, *lines)).rows) == 1


def test_names_in_any_case_and_other_names_are_understood(tmp_path: Path) -> None:
    header = (
        "Cloud,Availability Zone,Machine-Type,GPU Model,GPUs,Rental_Type,Currency,Price,Timestamp"
    )
    found = read(
        csv(
            tmp_path,
            header,
            "AWS,eu-west-1c,g6.xlarge,NVIDIA L4,1,On-Demand,usd,0.5,2026-10-01T00Z",
        )
    )
    facts = found.series[0]
    assert (facts.provider, facts.region, facts.zone) == ("aws", "eu-west-1", "eu-west-1c")
    assert (facts.gpu, facts.purchase, facts.currency) == ("L4", "on_demand", "USD")
    assert found.rows[0][1:4] == (OCTOBER, OPEN, 500_000)


def test_columns_are_mapped_and_values_set(tmp_path: Path) -> None:
    path = csv(tmp_path, "when,model,usd,usd_spot", "2026-10-01,H100,3.5,1.25")
    found = read(
        path,
        renamed=[
            parse_renamed("when=valid_from"),
            parse_renamed("model=gpu"),
            parse_renamed("model=instance_type"),
            parse_renamed("usd_spot=price_hour"),
        ],
        values=dict(
            map(
                parse_value,
                ["provider=runpod", "region=EU-RO-1", "gpu_count=1", "purchase=spot",
                 "currency=USD", "tier=secure", "source=tracker"],
            )
        ),
        zone=ZoneInfo("Europe/Berlin"),
    )  # fmt: skip
    facts, since, _, micros, source = found.rows[0]
    assert (facts.instance_type, facts.gpu, facts.tier) == ("H100", "H100", "secure")
    assert (since, micros, source) == (OCTOBER - 2 * 3600, 1_250_000, "tracker")


def test_the_gpu_of_a_known_machine_is_known(tmp_path: Path) -> None:
    header = "provider,region,instance_type,purchase,currency,price_hour,valid_from"
    row = "aws,eu-north-1,g9.huge,spot,USD,2,2026-10-01T00:00:00Z"
    path = csv(tmp_path, header, row)
    facts = read(path, known={("aws", "g9.huge"): ("L4", 4)}).series[0]
    assert (facts.gpu, facts.gpu_count) == ("L4", 4)
    with pytest.raises(BadFile, match=r"csv:2: gpu: is not given.*'g9\.huge'.*--set gpu="):
        read(path)


@pytest.mark.parametrize(
    ("provider", "instance_type", "machine"),
    [
        ("aws", "p3.16xlarge", ("V100-16GB", 8)),
        ("azure", "standard_nc24ads_a100_v4", ("A100-80GB", 1)),
        ("gcp", "a2-highgpu-1g", ("A100-40GB", 1)),
    ],
)
def test_the_gpu_of_a_provider_s_machine_is_known_before_any_poll(
    tmp_path: Path, provider: str, instance_type: str, machine: tuple[str, int]
) -> None:
    header = "provider,region,instance_type,purchase,currency,price_hour,valid_from"
    row = f"{provider},somewhere,{instance_type},spot,USD,2,2026-10-01T00:00:00Z"
    facts = read(csv(tmp_path, header, row)).series[0]
    assert (facts.gpu, facts.gpu_count) == machine


def test_machines_of_different_sizes_are_apart_where_the_file_names_gpus_alone(
    tmp_path: Path,
) -> None:
    path = csv(
        tmp_path,
        "provider,region,gpu_model,gpu_count,purchase,currency,price_hour,valid_from",
        "mine,global,H200,1,on_demand,USD,3.5,2026-10-01T00:00:00Z",
        "mine,global,H200,8,on_demand,USD,27.2,2026-10-01T00:00:00Z",
    )
    renamed = [("gpu_model", "gpu"), ("gpu_model", "instance_type")]
    found = read(path, renamed=renamed)
    named = [(one[0].instance_type, one[0].gpu, one[0].gpu_count, one[3]) for one in found.rows]
    assert named == [("1x H200", "H200", 1, 3_500_000), ("8x H200", "H200", 8, 27_200_000)]


@pytest.mark.parametrize(
    ("place", "other", "sentence"),
    [
        (4, "8", "gpu_count: is not what an earlier row says of this machine"),
        (3, "L40S", "gpu: is not what an earlier row says of this machine"),
    ],
)
def test_two_machines_under_one_name_never_become_one_series(
    tmp_path: Path, place: int, other: str, sentence: str
) -> None:
    path = csv(tmp_path, HEADER, GOOD, with_field(place, other))
    with pytest.raises(BadFile, match=rf"prices\.csv:3: {sentence}") as refused:
        read(path)
    assert "--map COLUMN=instance_type" in (refused.value.hint or "")
    found = read(path, on_error=SKIP)
    both = f"g6.xlarge: {other}, not {GOOD.split(',')[place]}"
    assert found.read.left_out.listed == [(3, f"{sentence} ({both!r})")]
    assert len(found.rows) == 1


def test_prices_of_other_systems_than_linux_are_passed_over_and_counted(tmp_path: Path) -> None:
    header = (
        "Timestamp,AvailabilityZone,InstanceType,ProductDescription,SpotPrice,provider,region,"
        "purchase,currency"
    )
    systems = ("Linux/UNIX", "Windows", "Linux/UNIX (Amazon VPC)", "SUSE Linux")
    rows = [
        f"2026-10-0{day}T00:00:00Z,eu-west-1a,g6.xlarge,{system},{day},aws,eu-west-1,spot,USD"
        for day, system in enumerate(systems, 1)
    ]
    found = read(csv(tmp_path, header, *rows))
    assert [row[3] for row in found.rows] == [1_000_000, 3_000_000]
    assert found.read.left_out.reasons == {"not Linux": 2}
    assert found.read.left_out.listed == []
    taken = read(csv(tmp_path, header, *rows), values={"os": "linux"})
    assert len(taken.rows) == 4


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-10-01T00:00:00Z", 0),
        ("2026-10-01T00:00:00.999Z", 0),
        ("2026-10-01T02:00:00+02:00", 0),
        ("2026-10-01 00:00:00+00:00", 0),
        (str(OCTOBER + 60), 60),
        (str((OCTOBER + 60) * 1000 + 999), 60),
    ],
)
def test_times_as_they_are_written(tmp_path: Path, text: str, seconds: int) -> None:
    assert read(csv(tmp_path, HEADER, with_field(8, text))).rows[0][1] == OCTOBER + seconds


def test_millionths_are_exact(tmp_path: Path) -> None:
    header = HEADER.replace("price_hour", "price_micros")
    assert read(csv(tmp_path, header, with_field(7, "1234567"))).rows[0][3] == 1_234_567


def test_a_price_of_one_gpu_is_multiplied_where_the_machine_has_none(tmp_path: Path) -> None:
    eight = with_field(4, "8")
    alone = csv(tmp_path, HEADER.replace("price_hour", "price_gpu_hour"), eight)
    assert read(alone).rows[0][3] == 4_000_000
    both = csv(tmp_path, f"{HEADER},price_gpu_hour", f"{eight},0.0625")
    assert read(both).rows[0][3] == 500_000
    named = read(both, renamed=[("price_gpu_hour", "price_gpu_hour")])
    assert named.rows[0][3] == 500_000, "whoever names the column means it"


def test_an_end_that_has_not_come_is_none(tmp_path: Path) -> None:
    found = read(csv(tmp_path, HEADER, with_field(9, "9999-12-31T00:00:00Z"), with_field(9, "")))
    assert [row[2] for row in found.rows] == [OPEN, OPEN]


def test_a_row_without_a_price_is_a_gap(tmp_path: Path) -> None:
    found = read(csv(tmp_path, HEADER, with_field(7, "")))
    assert (found.read.gaps, found.rows[0][3]) == (1, 0)


def test_what_a_file_says_of_itself_is_read(tmp_path: Path) -> None:
    path = csv(tmp_path, "# as_of: 2026-10-03T00:00:00Z", "# query: everything", HEADER, GOOD)
    assert read(path).read.as_of == datetime(2026, 10, 3, tzinfo=UTC)
    later = csv(tmp_path, "# as_of: 2027-10-03T00:00:00Z", HEADER, GOOD)
    assert read(later).read.as_of is None


def test_progress_counts_to_the_end_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arbiter.price_files.reading._EVERY", 10)
    path = csv(tmp_path, HEADER, *[GOOD] * 2_000)
    steps: list[int] = []
    read(path, told=steps.append)
    assert len(steps) > 1
    assert 0 < sum(steps) <= extent(path) == path.stat().st_size


# --- faults -------------------------------------------------------------------------------------

FAULTS = [
    (0, "", "provider: is empty"),
    (0, "a\x1bws", "provider: is not readable text ('a\\x1bws')"),
    (4, "many", "gpu_count: is no number of GPUs ('many')"),
    (4, "0", "gpu_count: is no number of GPUs ('0')"),
    (5, "leased", "purchase: is no purchase ('leased')"),
    (6, "dollars", "currency: is no ISO 4217 code ('DOLLARS')"),
    (7, "1,50", None),
    (7, "cheap", "price_hour: price is not a number ('cheap')"),
    (7, "0", "price_hour: price is 0 ('0')"),
    (7, "-3", "price_hour: price is negative ('-3')"),
    (7, "1e9", "price_hour: price is above 100000 an hour ('1e9')"),
    (7, "0.00001", "price_hour: price is below 0.001 an hour ('0.00001')"),
    (8, "", "valid_from: is empty"),
    (8, "yesterday", "valid_from: is no time ('yesterday')"),
    (8, "2026-10-01", "valid_from: has no time zone ('2026-10-01')"),
    (8, "2026-12-01T00:00:00Z", "valid_from: lies in the future ('2026-12-01T00:00:00Z')"),
    (8, "1969-12-31T00:00:00Z", "valid_from: is before 1970 ('1969-12-31T00:00:00Z')"),
    (9, "2026-09-01T00:00:00Z", "valid_to: ends before it begins ('2026-09-01T00:00:00Z')"),
]


@pytest.mark.parametrize(("field", "value", "sentence"), FAULTS)
def test_a_wrong_row_stops_with_its_line_and_is_left_out_on_request(
    tmp_path: Path, field: int, value: str, sentence: str | None
) -> None:
    sentence = sentence or "has 11 fields, the header has 10"
    path = csv(tmp_path, HEADER, GOOD, with_field(field, value), GOOD)
    with pytest.raises(BadFile) as stopped:
        read(path)
    message = str(stopped.value)
    assert message.startswith(f"{path}:3: {sentence}; nothing was imported; ")
    assert message.endswith("--on-error skip")
    found = read(path, on_error=SKIP)
    assert found.read.rows == 2
    assert found.read.left_out.listed == [(3, sentence)]


def test_lines_are_those_of_an_editor(tmp_path: Path) -> None:
    multi = with_field(2, '"g6\n.xlarge"')
    path = csv(
        tmp_path, "# a note", HEADER, GOOD, "", with_field(7, '"1\n\n2"'), with_field(7, "x"), multi
    )
    found = read(path, on_error=SKIP)
    assert [line for line, _ in found.read.left_out.listed] == [5, 8, 9]


def test_only_the_first_are_listed_and_all_are_counted(tmp_path: Path) -> None:
    bad = [with_field(7, f"-{number}") for number in range(1, 41)]
    left_out = read(csv(tmp_path, HEADER, GOOD, *bad), on_error=SKIP).read.left_out
    assert left_out.rows == left_out.reasons["price is negative"] == 40
    assert len(left_out.listed) == rows_module.LISTED


def test_bytes_that_are_no_text_are_a_fault_of_their_row(tmp_path: Path) -> None:
    path = csv(tmp_path, HEADER, GOOD, with_field(1, "????"), GOOD)
    path.write_bytes(path.read_bytes().replace(b"????", b"\xff\xfe\x80"))
    assert read(path, on_error=SKIP).read.left_out.listed[0][0] == 3


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], r"is empty"),
        (["# only", "# notes"], r"is empty"),
        (["hello"], r":1: is not CSV"),
        (["a,b,c", "1,2,3"], r"no column for provider, instance_type, .*it has a, b, c; name it"),
        ([HEADER + ",gpu", GOOD], r"'gpu' and 'gpu' could both be gpu; say which: --map"),
        (
            [HEADER.replace("price_hour", "price,hourly_price"), GOOD],
            r"'price' and 'hourly_price' could both be price_hour",
        ),
        ([HEADER, GOOD, '"' + GOOD, GOOD], r":3: cannot be read as CSV: .*not closed"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, lines: Sequence[str], message: str) -> None:
    with pytest.raises(BadFile, match=message):
        read(csv(tmp_path, *lines))


def test_a_file_that_is_not_there_or_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"none\.csv cannot be read: No such file"):
        extent(tmp_path / "none.csv")
    with pytest.raises(BadFile, match=r"none\.parquet cannot be read: .*No such file"):
        extent(tmp_path / "none.parquet")
    with pytest.raises(BadFile, match=r"prices\.ods is neither \.csv nor \.parquet"):
        extent(tmp_path / "prices.ods")
    garbage = tmp_path / "garbage.parquet"
    garbage.write_bytes(b"PAR1 not at all")
    with pytest.raises(BadFile, match=r"garbage\.parquet is no readable Parquet file"):
        extent(garbage)


def test_slips_of_names_are_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"'prise_hour' is no column.*did you mean price_hour"):
        parse_renamed("cost=prise_hour")
    with pytest.raises(BadFile, match=r"no column 'pryce_hour'; did you mean price_hour"):
        read(csv(tmp_path, HEADER, GOOD), renamed=[("pryce_hour", "price_hour")])
    with pytest.raises(BadFile, match="not COLUMN=OURS"):
        parse_renamed("price_hour")
    with pytest.raises(BadFile, match="not OURS=VALUE"):
        parse_value("provider")


def test_a_source_per_row_is_a_slip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "MOST_SOURCES", 3)
    lines = [f"{GOOD},row {number}" for number in range(5)]
    with pytest.raises(BadFile, match="'source' has more than 3 values"):
        read(csv(tmp_path, HEADER + ",source", *lines))


# --- Parquet ------------------------------------------------------------------------------------


def parquet(folder: Path, **columns: Any) -> Path:
    given = {
        "provider": ["aws"] * 2, "region": ["eu-north-1"] * 2, "instance_type": ["g6.xlarge"] * 2,
        "gpu": ["L4"] * 2, "gpu_count": [1, 1], "purchase": ["spot"] * 2, "currency": ["USD"] * 2,
        "price_hour": [0.1, 0.25],
        "valid_from": [NOW - timedelta(days=2), NOW - timedelta(days=1)],
    } | columns  # fmt: skip
    path = folder / "prices.parquet"
    pq.write_table(pa.table(given), path)
    return path


@pytest.mark.parametrize(
    "prices", [[0.1, 0.25], [Decimal("0.10"), Decimal("0.25")], ["0.1", "0.250"]]
)
def test_parquet_prices_of_every_type(tmp_path: Path, prices: list[object]) -> None:
    assert [row[3] for row in read(parquet(tmp_path, price_hour=prices)).rows] == [100_000, 250_000]


def test_parquet_nulls_and_nans_are_no_price(tmp_path: Path) -> None:
    assert read(parquet(tmp_path, price_hour=[None, float("nan")])).read.gaps == 2


def test_parquet_times(tmp_path: Path) -> None:
    day = datetime(2026, 10, 1)  # noqa: DTZ001  a column without a zone
    naive = pa.array([day, day], pa.timestamp("ns"))
    with pytest.raises(BadFile, match=r"prices\.parquet, row 1: valid_from: has no time zone"):
        read(parquet(tmp_path, valid_from=naive))
    found = read(parquet(tmp_path, valid_from=naive), zone=UTC)
    assert [row[1] for row in found.rows] == [OCTOBER, OCTOBER]
    dates = pa.array([day.date(), day.date()], pa.date32())
    assert read(parquet(tmp_path, valid_from=dates), zone=UTC).rows[0][1] == OCTOBER


def test_a_wrong_row_of_a_parquet_file_has_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arbiter.price_files.parquet.BATCH", 1)
    path = parquet(tmp_path, price_hour=[1.0, -1.0])
    with pytest.raises(BadFile, match=r"row 2: price_hour: price is negative"):
        read(path)
    assert read(path, on_error=SKIP).read.rows == 1
    assert extent(path) == 2
