"""Asking AWS with an account: instance types, zones, spot prices and list prices, by boto3.

Needs ec2:DescribeInstanceTypes, ec2:DescribeAvailabilityZones, ec2:DescribeSpotPriceHistory and
pricing:GetProducts, and for signals ec2:GetSpotPlacementScores; all of them are read-only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from arbiter.clock import Clock
from arbiter.errors import (
    BadAnswer,
    BadCredentials,
    MissingCredentials,
    ProviderError,
    RateLimited,
    Unreachable,
)
from arbiter.provider import Page, Progress, ProviderSettings
from arbiter_providers._regions import ask_regions
from arbiter_providers.aws_types import PATTERNS, TYPES, described

WORKERS = 8
CONNECT_S = 10.0
MOST_PAGES = 500

PRICING_REGION = "eu-central-1"
"""One of the three regions that answer GetProducts, for all of them."""

LONGEST_VALUE = 1024
"""Characters that one filter value of GetProducts may have."""

_REFUSED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "OptInRequired",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnauthorizedOperation",
        "UnrecognizedClientException",
    }
)
_LIMITED = frozenset(
    {"RequestLimitExceeded", "Throttling", "ThrottlingException", "TooManyRequestsException"}
)


def session(settings: ProviderSettings) -> Any | None:
    """A boto3 session with credentials, or None where none are found.

    Raises:
        MissingCredentials: `options.profile` names a profile that does not exist.
    """
    import boto3
    from botocore.exceptions import BotoCoreError

    try:
        made = boto3.Session(profile_name=settings.options.get("profile"))
        return made if made.get_credentials() is not None else None
    except BotoCoreError as error:
        hint = "correct providers.aws.options.profile, or the AWS configuration file"
        raise MissingCredentials(f"aws: {error}", hint) from error


class Account:
    """One poll with one account's credentials."""

    def __init__(self, made: Any, settings: ProviderSettings, clock: Clock) -> None:
        self._session = made
        self._settings = settings
        self._clock = clock

    def fetch(
        self, regions: Sequence[str], progress: Progress
    ) -> tuple[tuple[Page, ...], tuple[str, ...]]:
        """The pages of every region, and what could not be had.

        Raises:
            ProviderError: no region answered for spot prices.
        """
        clients = {region: self.client("ec2", region) for region in regions}
        spot, refused = ask_regions(
            regions, lambda region: self._spot(clients[region], region), progress, workers=WORKERS
        )
        if refused and not spot:
            raise next(iter(refused.values()))
        pages = [page for found, _ in spot.values() for page in found]
        degraded = [f"{region}: {_why(error)}" for region, error in refused.items()]
        degraded += [note for _, notes in spot.values() for note in notes]
        listed, failed = self._on_demand(tuple(spot), progress)
        return (*pages, *listed), (*degraded, *failed)

    def _spot(self, ec2: Any, region: str) -> tuple[list[Page], list[str]]:
        pages: list[Page] = []
        notes: list[str] = []
        types: Sequence[str] = tuple(TYPES)
        try:
            pages = self.instance_types(ec2, region)
            types = [item["InstanceType"] for page in pages for item in page.body["InstanceTypes"]]
        except (BadCredentials, BadAnswer, RateLimited) as error:
            notes.append(f"{region}: GPUs by the built-in table, {error.message}")
        history = self._spot_history(ec2, region, types) if types else [_no_spot(region)]
        if not all(row.get("AvailabilityZoneId") for page in history for row in _rows(page)):
            try:
                pages += self.zones(ec2, region)
            except ProviderError as error:
                notes.append(f"{region}: spot prices without stable zones, {error.message}")
        return [*pages, *history], notes

    def instance_types(self, ec2: Any, region: str) -> list[Page]:
        """What the machines of a region have for GPUs."""
        patterns = [{"Name": "instance-type", "Values": list(PATTERNS)}]
        bodies = paged(ec2.describe_instance_types, region, Filters=patterns)
        return [
            Page(
                "instance-types",
                region,
                {"InstanceTypes": _with_gpu(body), "NextToken": body.get("NextToken")},
            )
            for body in bodies
        ]

    def _spot_history(self, ec2: Any, region: str, types: Sequence[str]) -> list[Page]:
        # A window of no length brings the price that stands now, of every zone and type.
        now = self._clock.now()
        bodies = paged(
            ec2.describe_spot_price_history,
            region,
            StartTime=now,
            EndTime=now,
            InstanceTypes=list(types),
            ProductDescriptions=["Linux/UNIX"],
            MaxResults=1000,
        )
        return [Page("spot-price-history", region, body) for body in bodies]

    def zones(self, ec2: Any, region: str) -> list[Page]:
        """The account's names of a region's zones, with their stable ids."""
        body = call_once(ec2.describe_availability_zones, region, AllAvailabilityZones=True)
        return [Page("availability-zones", region, body)]

    def _on_demand(
        self, regions: Sequence[str], progress: Progress
    ) -> tuple[list[Page], list[str]]:
        pricing = self.client("pricing", PRICING_REGION)
        answers, errors = ask_regions(
            regions, lambda region: self._products(pricing, region), progress, workers=WORKERS
        )
        pages = [page for found in answers.values() for page in found]
        if errors and not answers:
            return pages, [f"on-demand prices: {next(iter(errors.values())).message}"]
        return pages, [f"{region}: on-demand, {e.message}" for region, e in errors.items()]

    def _products(self, pricing: Any, region: str) -> list[Page]:
        wanted = {
            "regionCode": region,
            "operatingSystem": "Linux",
            "tenancy": "Shared",
            "preInstalledSw": "NA",
            "capacitystatus": "Used",
            "marketoption": "OnDemand",
        }
        match = [{"Type": "TERM_MATCH", "Field": k, "Value": v} for k, v in wanted.items()]
        return [
            Page("products", region, body)
            for types in _values(sorted(TYPES))
            for body in paged(
                pricing.get_products,
                region,
                ServiceCode="AmazonEC2",
                Filters=[*match, {"Type": "ANY_OF", "Field": "instanceType", "Value": types}],
            )
        ]

    def client(self, service: str, region: str) -> Any:
        """A boto3 client of this account.

        Raises:
            BadAnswer: the endpoint or the region is none.
        """
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        timeout = self._settings.timeout_s
        config = Config(
            connect_timeout=min(timeout, CONNECT_S),
            read_timeout=timeout,
            max_pool_connections=WORKERS,
            retries={"mode": "standard", "total_max_attempts": max(1, self._settings.max_attempts)},
        )
        try:
            return self._session.client(
                service, region_name=region, endpoint_url=self._settings.endpoint, config=config
            )
        except (BotoCoreError, ValueError) as error:
            raise BadAnswer(f"aws: no {service} client for {region}: {error}") from error


def _with_gpu(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The machines with a GPU, and of each only what tells its GPU."""
    keys = ("InstanceType", "GpuInfo", "ProcessorInfo")
    return [
        {key: item[key] for key in keys if key in item}
        for item in body.get("InstanceTypes") or ()
        if isinstance(item, Mapping) and item.get("GpuInfo") and described(item)
    ]


def _no_spot(region: str) -> Page:
    return Page("spot-price-history", region, {"SpotPriceHistory": [], "NextToken": ""})


def _rows(page: Page) -> Sequence[Mapping[str, Any]]:
    rows: Sequence[Mapping[str, Any]] = page.body.get("SpotPriceHistory") or ()
    return rows


def _values(types: Sequence[str]) -> Iterator[str]:
    """Instance types joined with commas, as often as one filter value can take."""
    joined = ""
    for one in types:
        if joined and len(joined) + 1 + len(one) > LONGEST_VALUE:
            yield joined
            joined = ""
        joined = f"{joined},{one}" if joined else one
    if joined:
        yield joined


def paged(call: Callable[..., Any], region: str, **request: Any) -> Iterator[dict[str, Any]]:
    """Every page. An empty NextToken ends as an absent one does; one that returns ends it too,
    and then the last page still carries it, which marks the answer as cut short.

    Raises:
        ProviderError: a page was refused or did not come.
    """
    seen: set[str] = set()
    token = ""
    for _ in range(MOST_PAGES):
        body = call_once(call, region, **request, **({"NextToken": token} if token else {}))
        yield body
        token = body.get("NextToken") or ""
        if not token or token in seen:
            return
        seen.add(token)


def call_once(call: Callable[..., Any], region: str, **request: Any) -> dict[str, Any]:
    """One call, its failure as a ProviderError.

    The text is the operation and the error's code: AWS's own sentence may name the user.
    """
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        ConnectionError,
        HTTPClientError,
        NoCredentialsError,
    )
    from botocore.parsers import ResponseParserError

    name = getattr(call, "__name__", "call")
    try:
        body: dict[str, Any] = call(**request)
    except ClientError as error:
        raise _refusal(name, region, error.response) from error
    except NoCredentialsError as error:
        raise MissingCredentials(f"aws: no credentials for {name}") from error
    except (HTTPClientError, ConnectionError) as error:
        what = type(error).__name__
        raise Unreachable(f"aws: {name} in {region} cannot be reached ({what})") from error
    except ResponseParserError as error:
        raise BadAnswer(f"aws: {name} in {region} answered what is not its format") from error
    except BotoCoreError as error:
        raise BadAnswer(f"aws: {name} in {region} failed ({type(error).__name__})") from error
    body.pop("ResponseMetadata", None)
    if not body:
        # botocore reads any XML, a page of HTML too; an answer without rows still has their list.
        raise BadAnswer(f"aws: {name} in {region} answered what is not its format")
    return body


def _refusal(name: str, region: str, response: Mapping[str, Any]) -> ProviderError:
    code = str(response.get("Error", {}).get("Code", "unknown"))
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    text = f"aws: {name} in {region} was refused ({code})"
    if code in _REFUSED:
        return BadCredentials(text, "check the AWS credentials and their permissions")
    if code in _LIMITED:
        return RateLimited(text)
    if status >= 500:
        return Unreachable(f"aws: {name} in {region} failed ({code})")
    return BadAnswer(text)


def _why(error: ProviderError) -> str:
    if isinstance(error, BadCredentials) and "(AuthFailure)" in error.message:
        return "not enabled on the account (AuthFailure)"
    return error.message
