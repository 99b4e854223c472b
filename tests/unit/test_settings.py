"""Settings: what wins, what is refused, and how it is told."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from decimal import Decimal
from pathlib import Path

import platformdirs
import pytest

from arbiter.commitments import Commitment
from arbiter.errors import SettingsError
from arbiter.policy import Policy
from arbiter.profiles import Quantization
from arbiter.settings import Settings, default_data_dir, load_settings
from arbiter.sovereignty import Level
from arbiter.store.engine import parse_url


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path / "home")}


def write(text: str, path: Path = Path("arbiter.toml")) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def problems(environ: dict[str, str], path: Path | None = None) -> list[str]:
    """The lines of the error, without the folder of the file."""
    with pytest.raises(SettingsError) as caught:
        load_settings(path, environ)
    return caught.value.message.splitlines()


def test_with_nothing_set_the_defaults_hold(home: dict[str, str]) -> None:
    settings = load_settings(None, home)
    data = Path(home["HOME"]) / ".local/share/arbiter"
    assert settings == Settings(database_url=f"sqlite:///{data}/arbiter.db", data_dir=data)


def test_the_data_folder_is_the_systems_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The rule that is written out to save an import is the one of platformdirs."""
    for xdg in (str(tmp_path / "xdg"), None):
        monkeypatch.delenv("XDG_DATA_HOME") if xdg is None else monkeypatch.setenv(
            "XDG_DATA_HOME", xdg
        )
        environ = {"HOME": str(Path.home())} | ({"XDG_DATA_HOME": xdg} if xdg else {})
        assert default_data_dir(environ) == platformdirs.user_data_path("arbiter", False)


def test_a_file_is_read(home: dict[str, str]) -> None:
    write(
        """
        executor = "local"
        [policy]
        name = "eu"
        min_saving = 0.15
        max_usd_per_hour = 12.10
        sovereignty = { level = "eu-operator", deny = { countries = ["US"] } }
        [daemon]
        port = 9000
        tick_s = 2.5
        [providers.azure]
        endpoint = "http://127.0.0.1:8099"
        regions = ["westeurope"]
        interval_s = 60
        options = { page = 3 }
        """
    )
    settings = load_settings(None, home)

    assert settings.executor == "local"
    assert settings.policy.min_saving == Decimal("0.15")
    assert settings.policy.max_usd_per_hour == Decimal("12.10")
    assert settings.policy.sovereignty.level is Level.EU_OPERATOR
    assert settings.policy.sovereignty.deny.countries == ("US",)
    assert (settings.daemon.port, settings.daemon.tick_s) == (9000, 2.5)
    azure = settings.provider("azure")
    assert (azure.endpoint, azure.regions) == ("http://127.0.0.1:8099", ("westeurope",))
    assert azure.options["page"] == 3
    assert settings.provider("aws").enabled, "what is not set has its defaults"


def test_a_provider_has_a_cache_folder_of_its_own(home: dict[str, str]) -> None:
    settings = load_settings(None, home)
    assert settings.provider("aws").options["cache_dir"] == str(settings.data_dir / "cache/aws")


def test_a_variable_wins_over_the_file(home: dict[str, str]) -> None:
    write('[daemon]\nport = 1\nhost = "::1"\n[policy]\nspot = true')
    variables = {"ARBITER_DAEMON__PORT": "2", "ARBITER_POLICY__SPOT": "false"}
    settings = load_settings(None, home | variables)
    assert (settings.daemon.port, settings.daemon.host) == (2, "::1")
    assert settings.policy.spot is False


def test_variables_alone(home: dict[str, str]) -> None:
    settings = load_settings(
        None,
        home
        | {
            "ARBITER_DATABASE_URL": "postgresql://u:p@h/name",
            "ARBITER_EXECUTOR": "local",
            "ARBITER_PROVIDERS__AWS__REGIONS": "eu-west-1, eu-north-1,",
            "ARBITER_PROVIDERS__AWS__ENABLED": "False",
            "ARBITER_PROVIDERS__AWS__OPTIONS__PROFILE": "work",
            "ARBITER_PROVIDERS__AZURE__ENDPOINT": "https://mirror.example/x",
            "ARBITER_POLICY__SOVEREIGNTY__LEVEL": "eea",
            "ARBITER_POLICY__SOVEREIGNTY__DENY__COUNTRIES": "NO",
            "ARBITER_POLICY__MAX_USD_PER_HOUR": "3.10",
            "ARBITER_POLICY__NAME": "123",
            "ARBITER_DAEMON__TICK_S": "5",
        },
    )
    assert settings.database_url == "postgresql://u:p@h/name"
    aws = settings.provider("aws")
    assert (aws.regions, aws.enabled) == (("eu-west-1", "eu-north-1"), False)
    assert aws.options["profile"] == "work"
    assert settings.provider("azure").endpoint == "https://mirror.example/x"
    assert settings.policy.sovereignty.level is Level.EEA
    assert settings.policy.sovereignty.deny.countries == ("NO",)
    assert str(settings.policy.max_usd_per_hour) == "3.10"
    assert settings.policy.name == "123"
    assert settings.daemon.tick_s == 5.0


def test_an_empty_variable_is_not_set(home: dict[str, str]) -> None:
    assert load_settings(None, home | {"ARBITER_EXECUTOR": ""}) == load_settings(None, home)


@pytest.mark.parametrize(
    "name", ["ARBITER_API_KEY", "ARBITER_CI", "ARBITER_E2E_KEEP", "ARBITER_COMPLETE"]
)
def test_variables_that_mean_something_else_are_left_alone(home: dict[str, str], name: str) -> None:
    assert load_settings(None, home | {name: "x"}) == load_settings(None, home)


def test_which_file_is_read(home: dict[str, str], tmp_path: Path) -> None:
    def port(path: Path | None = None, **more: str) -> int:
        return load_settings(path, home | more).daemon.port

    write("daemon.port = 4", tmp_path / "home/.config/arbiter/arbiter.toml")
    assert port() == 4
    assert port(XDG_CONFIG_HOME=str(tmp_path / "nothing")) == 8400
    write("daemon.port = 3")
    assert port() == 3
    write("daemon.port = 2", tmp_path / "two.toml")
    assert port(ARBITER_CONFIG=str(tmp_path / "two.toml")) == 2
    assert port(write("daemon.port = 1", tmp_path / "one.toml"), ARBITER_CONFIG="two.toml") == 1


def test_a_file_that_was_named_must_exist(home: dict[str, str]) -> None:
    assert problems(home, Path("absent.toml")) == ["there is no settings file absent.toml"]
    assert problems(home | {"ARBITER_CONFIG": "gone.toml"}) == [
        "there is no settings file gone.toml (ARBITER_CONFIG)"
    ]


def test_relative_folders_are_meant_from_the_file_that_names_them(
    home: dict[str, str], tmp_path: Path
) -> None:
    for folder in ("etc/mine", "mine"):
        (tmp_path / folder).mkdir(parents=True)
    file = write('profiles_dir = "mine"\ndata_dir = "data"', tmp_path / "etc/arbiter.toml")
    settings = load_settings(file, home)
    assert settings.profiles_path == (tmp_path / "etc/mine",)
    assert settings.data_dir == tmp_path / "etc/data"
    assert settings.database_url == f"sqlite:///{tmp_path}/etc/data/arbiter.db"
    typed = load_settings(file, home | {"ARBITER_PROFILES_DIR": "mine"})
    assert typed.profiles_path == (tmp_path / "mine",)


def test_a_data_folder_of_any_name_leads_to_the_database_in_it(
    home: dict[str, str], tmp_path: Path
) -> None:
    odd = tmp_path / "a b%20c#d?e ü"
    url = load_settings(None, home | {"ARBITER_DATA_DIR": str(odd)}).database_url
    assert parse_url(url).database == str(odd / "arbiter.db")


def test_every_problem_is_told_at_once_with_its_line(home: dict[str, str]) -> None:
    write(
        """executr = "local"
[policy]
min_saving = 1.5
spto = true
sovereignty.level = "eu-operatr"
max_usd_per_hour = nan

[policy.sovereignty.deny]
countries = ["UK"]
regions = ["eu-centarl-1"]

[daemon]
port = "x"
tick_s = 0
"host" = ""

[providers.azur]
endpoint = "ftp://x"

[providers.aws]
regions = "eu-west-1"
interval_s = -1
options = { token = "abc", profile = "x" }
endpoint = "https://me:secret@h/"
"""
    )
    assert problems(home) == [
        "arbiter.toml:1: executr: is not known, did you mean executor?",
        "arbiter.toml:3: policy.min_saving: must be at least 0 and below 1",
        "arbiter.toml:4: policy.spto: is not known, did you mean spot?",
        "arbiter.toml:5: policy.sovereignty.level: is 'eu-operatr', did you mean eu-operator?",
        "arbiter.toml:6: policy.max_usd_per_hour: must be a finite number",
        "arbiter.toml:8: policy.sovereignty.deny: 'UK' is no ISO 3166 code, did you mean GB?",
        "arbiter.toml:8: policy.sovereignty.deny: no region is called 'eu-centarl-1', "
        "did you mean eu-central-1?",
        "arbiter.toml:13: daemon.port: must be a whole number",
        "arbiter.toml:14: daemon.tick_s: must be above 0 seconds and at most ten years",
        "arbiter.toml:15: daemon.host: must not be empty",
        "arbiter.toml:17: providers.azur: is no provider, did you mean azure?",
        "arbiter.toml:18: providers.azur.endpoint: must be an http or https URL",
        "arbiter.toml:21: providers.aws.regions: must be a list",
        "arbiter.toml:22: providers.aws.interval_s: must be above 0 seconds and at most ten years",
        "arbiter.toml:23: providers.aws.options.token: is a secret: keep it in the environment",
        "arbiter.toml:24: providers.aws.endpoint: must not hold a user or a password",
    ]


def test_problems_of_variables_are_told_by_the_variable(home: dict[str, str]) -> None:
    write("[daemon]\nport = 70000")
    variables = {
        "ARBITER_DATABSE_URL": "x",
        "ARBITER_DAEMON__PROT": "1",
        "ARBITER_POLICY__SPOT": "maybe",
        "ARBITER_POLICY__MIN_STAY_S": "soon",
        "ARBITER_PROVIDERS__AZRE__ENABLED": "true",
        "ARBITER_PROFILES_DIR": "/nowhere",
        "ARBITER_EXECUTOR": "docker",
        "ARBITER_POLICY__SOVEREIGNTY__VERSION": "2",
    }
    assert problems(home | variables) == [
        "arbiter.toml:2: daemon.port: must be from 0 to 65535",
        "ARBITER_DAEMON__PROT: is not known, did you mean ARBITER_DAEMON__PORT?",
        "ARBITER_DATABSE_URL: is not known, did you mean ARBITER_DATABASE_URL?",
        "ARBITER_EXECUTOR: must be skypilot or local",
        "ARBITER_POLICY__MIN_STAY_S: must be a whole number",
        "ARBITER_POLICY__SOVEREIGNTY__VERSION: is arbiter's own, for the record, and cannot be set",
        "ARBITER_POLICY__SPOT: must be true or false",
        "ARBITER_PROFILES_DIR: /nowhere is no folder",
        "ARBITER_PROVIDERS__AZRE__ENABLED: providers.azre: is no provider, did you mean azure?",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("policy = 3", "1: policy: must be a mapping of names to values"),
        ("providers = []", "1: providers: must be a mapping of names to values"),
        ("providers.aws = true", "1: providers.aws: must be a mapping of names to values"),
        ("\n[daemon]\nport = 8400.5", "3: daemon.port: must be a whole number"),
        ("data_dir = 3", "1: data_dir: "),
        (
            "[policy]\nspot = false\non_demand = false",
            "1: policy: allows neither spot nor on_demand",
        ),
        ("policy.refusal_s = 30000", "1: policy.refusal_max_s: must not be below refusal_s"),
        ("policy.min_stay_s = 1e3", "1: policy.min_stay_s: must be a whole number"),
        ("a = 1\na = 2", "2: is not TOML: Cannot overwrite a value"),
        ("daemon = {", "1: is not TOML: "),
        ("[daemon]\nport = eight", "2: is not TOML: Invalid value"),
    ],
)
def test_what_is_wrong_with_a_file(home: dict[str, str], text: str, told: str) -> None:
    lines = problems(home, write(text, Path("x.toml")))
    assert len(lines) == 1
    assert lines[0].startswith(f"x.toml:{told}")


def test_a_key_in_a_text_over_several_lines_is_no_key(home: dict[str, str]) -> None:
    write('[policy]\nname = """\n[daemon]\nport = 3\n"""\n[daemon]\nport = -1\n')
    assert problems(home) == ["arbiter.toml:7: daemon.port: must be from 0 to 65535"]


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgres://u:hunter2@h/n", "begins with postgres://, write postgresql://"),
        ("mysql://u:hunter2@h/n", "must begin with sqlite:/// or postgresql://"),
        ("hunter2", "must be a URL: sqlite:////path/arbiter.db or postgresql://user@host/name"),
        ("sqlite://", "must name a file: sqlite:////path/arbiter.db"),
        ("sqlite:///:memory:", "must name a file: sqlite:////path/arbiter.db"),
    ],
)
def test_a_wrong_database_url_is_told_without_showing_it(
    home: dict[str, str], url: str, told: str
) -> None:
    assert problems(home | {"ARBITER_DATABASE_URL": url}) == [f"ARBITER_DATABASE_URL: {told}"]
    file = write(f'database_url = "{url}"\ndaemon.port = "x"')
    assert "hunter2" not in "\n".join(problems(home, file))


def test_printed_settings_show_no_password(home: dict[str, str]) -> None:
    settings = load_settings(None, home | {"ARBITER_DATABASE_URL": "postgresql://u:hunter2@h/n"})
    assert "hunter2" not in repr(settings)


def test_a_file_that_is_no_text_or_far_too_large(home: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_bytes(b"executor = 'local'\n# \xff")
    assert problems(home, file) == [f"{file}:2: is not UTF-8 text"]
    file.write_bytes(b"#" * 1_000_001)
    assert problems(home, file) == [f"{file} is larger than 1000000 bytes: is it the right file?"]


def test_sound_settings_import_nothing_heavy(home: dict[str, str]) -> None:
    """The command line waits for this: pydantic only explains, msgspec checks what is nested."""
    script = (
        "import sys; from arbiter.settings import load_settings;"
        f"load_settings(None, {home | {'ARBITER_DATABASE_URL': 'sqlite:////x/y.db'}!r});"
        "print({'msgspec', 'pydantic', 'platformdirs', 'sqlalchemy'} & set(sys.modules));"
        f"load_settings(None, {home | {'ARBITER_DAEMON__PORT': '1'}!r});"
        "print({'pydantic', 'platformdirs', 'sqlalchemy', 'yaml'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:2] == ["set()", "set()"]


def test_an_availability_and_a_budget_exclude_each_other(home: dict[str, str]) -> None:
    write("[policy]\navailability = 0.999\nbudget = 0.5\n")
    (line,) = problems(home)
    assert line == (
        "arbiter.toml:3: policy.budget: cannot be steered to beside availability: leave one"
    )
    write("[policy]\navailability = 99.9\n")
    (line,) = problems(home)
    assert line.endswith("policy.availability: must be from 0.5 to 0.99999, a share of time")


def test_a_quality_floor_is_one_of_the_known(home: dict[str, str]) -> None:
    write('[policy]\nquality_floor = "fp8"\n')
    assert load_settings(None, home).policy.quality_floor is Quantization.FP8
    assert load_settings(None, home | {"ARBITER_POLICY__QUALITY_FLOOR": "bf16"}).policy == Policy(
        quality_floor=Quantization.BF16
    )
    write('[policy]\nquality_floor = "fp9"\n')
    (line,) = problems(home)
    assert line == "arbiter.toml:2: policy.quality_floor: is 'fp9', did you mean fp8?"


COMMITMENT = """
[[policy.commitments]]
provider = "aws"
region = "eu-north-1"
instance_type = "g6.xlarge"
count = 2
until = 2027-06-30
"""


def test_commitments_are_read_from_the_file(home: dict[str, str]) -> None:
    write(COMMITMENT + 'usd_per_hour = "0.10"\n')
    (one,) = load_settings(None, home).policy.commitments
    assert one == Commitment(
        "aws", "eu-north-1", "g6.xlarge", 2, date(2027, 6, 30), Decimal("0.10")
    )


def test_commitments_that_cannot_be_are_told_with_their_line(home: dict[str, str]) -> None:
    wrong = COMMITMENT.replace("eu-north-1", "eu-norht-1").replace("count = 2", "count = 0")
    write(
        COMMITMENT
        + COMMITMENT
        + wrong
        + "[policy]\non_demand = false\nbase_on_demand = 1\nparked = 1\n"
    )
    lines = problems(home)
    assert [line for line in lines if "listed twice: add them up" in line]
    assert [line for line in lines if "count: must be at least 1" in line]
    assert [line for line in lines if "did you mean aws/eu-north-1" in line]
    assert [line for line in lines if "base_on_demand: needs on_demand" in line]
    assert [line for line in lines if "policy.parked: needs on_demand" in line]
