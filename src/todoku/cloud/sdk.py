"""The official SDK, opened as the settings say: who asks, in which region, and every error as a CloudError.

`oci` is imported only here, and only when something is asked: it takes a third of a second, and a mail host
whose cloud side is managed elsewhere need not have it. The SDK's own retries and its circuit breaker are off:
which request may be sent twice is decided in `retry`.
"""

from __future__ import annotations

import importlib
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from todoku.cloud.errors import Attempt, CloudError, Reply, Trouble, refused, unreachable
from todoku.cloud.permissions import READ_TENANCY, Right

# Service -> its package within oci, and its client.
_CLIENTS = {
    "email": ("email", "EmailClient"),
    "identity": ("identity", "IdentityClient"),
    "identity_domains": ("identity_domains", "IdentityDomainsClient"),
    "limits": ("limits", "LimitsClient"),
    "logging": ("logging", "LoggingManagementClient"),
    "loggingsearch": ("loggingsearch", "LogSearchClient"),
    "network": ("core", "VirtualNetworkClient"),
    "compute": ("core", "ComputeClient"),
}
_TIMEOUT = (10.0, 60.0)  # seconds to connect, to wait for an answer


@dataclass(frozen=True, slots=True)
class Access:
    """Who asks and where: from the settings."""

    compartment: str
    region: str  # the sending region
    auth: str = "config"  # or "instance_principal"
    config_file: Path = Path("~/.oci/config")
    profile: str = "DEFAULT"
    identity_domain: str | None = None
    # Service name ("email", "identity") to its address, where it does not follow from the region.
    endpoints: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Identity:
    """Who we are: the SDK's configuration, its signer (None: made from the configuration), tenancy, region."""

    config: dict[str, Any] = field(repr=False)
    signer: Any = field(repr=False)
    tenancy: str
    region: str


class Sdk:
    """The SDK's clients, made when they are first used. Safe to use from several threads."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._clients: dict[tuple[str, str], Any] = {}
        self._lock = threading.RLock()
        self._asking_regions = threading.Lock()
        self._subscribed: Any = None
        self._known: _Identity | CloudError | None = None

    @cached_property
    def oci(self) -> Any:
        """The package itself. Raises CloudError when it is not installed."""
        try:
            with self._lock:
                return importlib.import_module("oci")
        except ImportError as error:
            raise CloudError(
                "the settings have a [cloud] table, which needs Oracle's SDK for Python, and that is not "
                f"installed ({error}): run script/setup in Todoku's folder, or pip install 'todoku[cloud]'",
                Trouble.LOCAL,
            ) from error

    @property
    def tenancy(self) -> str:
        """The tenancy's OCID. Raises CloudError."""
        return self._identity.tenancy

    @property
    def home_region(self) -> str:
        """Where IAM takes writes; the region of the configuration when we may not ask which it is."""
        try:
            subscribed = self.region_subscriptions()
        except CloudError as error:
            if error.trouble is not Trouble.DENIED:
                raise
            return self._own_region
        return next((each.region_name for each in subscribed if each.is_home_region), self._own_region)

    def region_subscriptions(self) -> Any:
        """The regions of the tenancy, as the SDK's models; asked for once, however many threads want to know."""
        with self._asking_regions:
            if self._subscribed is None:
                attempt = self.attempt("list the tenancy's regions", READ_TENANCY, self._own_region)
                client = self._client("identity", self._own_region)
                try:
                    self._subscribed = self.call(attempt, client.list_region_subscriptions, self.tenancy)
                except CloudError as error:
                    if error.trouble is not Trouble.DENIED:
                        raise
                    self._subscribed = error
            if isinstance(self._subscribed, CloudError):
                raise self._subscribed
            return self._subscribed

    @property
    def email(self) -> Any:
        """oci.email.EmailClient in the sending region."""
        return self._client("email", self.access.region)

    @property
    def logging(self) -> Any:
        """oci.logging.LoggingManagementClient in the sending region."""
        return self._client("logging", self.access.region)

    @property
    def search(self) -> Any:
        """oci.loggingsearch.LogSearchClient in the sending region."""
        return self._client("loggingsearch", self.access.region)

    @property
    def limits(self) -> Any:
        """oci.limits.LimitsClient in the sending region."""
        return self._client("limits", self.access.region)

    @property
    def identity(self) -> Any:
        """oci.identity.IdentityClient in the home region."""
        return self._client("identity", self.home_region)

    def network(self, region: str) -> Any:
        """oci.core.VirtualNetworkClient in that region."""
        return self._client("network", region)

    def compute(self, region: str) -> Any:
        """oci.core.ComputeClient in that region."""
        return self._client("compute", region)

    @property
    def core(self) -> Any:
        """The package oci.core, with its models."""
        return importlib.import_module("oci.core")

    def identity_domain(self, url: str) -> Any:
        """oci.identity_domains.IdentityDomainsClient of the domain with that address."""
        return self._client("identity_domains", url)

    def attempt(self, to: str, right: Right, region: str | None = None) -> Attempt:
        """A description of what is tried, for an error's sentence."""
        principal = self.access.auth == "instance_principal"
        caller = "dynamic-group YOUR-DYNAMIC-GROUP" if principal else "group YOUR-GROUP"
        return Attempt(to, right, self.access.compartment, region or self.access.region, caller)

    def call(self, attempt: Attempt, method: Any, *args: Any, **kwargs: Any) -> Any:
        """What `method` of a client returns. Raises CloudError."""
        return self.respond(attempt, method, *args, **kwargs).data

    def respond(self, attempt: Attempt, method: Any, *args: Any, **kwargs: Any) -> Any:
        """The same with what came in the head. Raises CloudError."""
        return self._translated(attempt, lambda: method(*args, **kwargs))

    def all_pages(self, attempt: Attempt, method: Any, *args: Any, **kwargs: Any) -> list[Any]:
        """All that a list operation has, page by page. Raises CloudError."""
        # Not by oci.pagination: it has its own retries, for ten minutes, whatever the client was told.
        found: list[Any] = []
        page: dict[str, str] = {}
        while True:
            response = self._translated(attempt, lambda: method(*args, **kwargs, **page))  # noqa: B023 - called now
            found += getattr(response.data, "items", response.data)
            if not response.next_page:
                return found
            page = {"page": response.next_page}

    def _translated(self, attempt: Attempt, ask: Any) -> Any:
        exceptions = self.oci.exceptions
        try:
            return ask()
        except exceptions.ServiceError as error:
            raise refused(attempt, _reply(error)) from error
        except exceptions.ConnectTimeout as error:
            raise unreachable(attempt, "no answer in time", sent=False) from error
        except exceptions.RequestException as error:
            reason = _reason(error)
            never_sent = "NewConnectionError" in reason or "NameResolution" in reason
            raise unreachable(attempt, _shortened(reason), sent=not never_sent) from error

    @property
    def _own_region(self) -> str:
        return self._identity.region

    @property
    def _identity(self) -> _Identity:
        """Who we are. Found out once, also when it cannot be: that takes long where there is no metadata service."""
        with self._lock:
            if self._known is None:
                try:
                    is_instance = self.access.auth == "instance_principal"
                    self._known = self._instance() if is_instance else self._configured()
                except CloudError as error:
                    self._known = error
            if isinstance(self._known, CloudError):
                raise self._known
            return self._known

    def _configured(self) -> _Identity:
        path = self.access.config_file.expanduser()
        where = f"{path}, profile {self.access.profile}"
        try:
            config = self.oci.config.from_file(str(path), self.access.profile)
            if not config.get("region"):
                config["region"] = self.access.region
            self.oci.config.validate_config(config)
        except self.oci.exceptions.ConfigFileNotFound as error:
            raise CloudError(
                f"there is no {path}, with which to log in to Oracle's cloud: make it with "
                "`oci setup config`, or in the console under your profile, API keys; or name another one "
                "in cloud.config_file",
                Trouble.LOCAL,
            ) from error
        except self.oci.exceptions.ProfileNotFound as error:
            message = f"{path} has no profile {self.access.profile}: correct cloud.profile"
            raise CloudError(message, Trouble.LOCAL) from error
        except self.oci.exceptions.InvalidConfig as error:
            what = "; ".join(f"{key}: {why}" for key, why in getattr(error, "errors", {}).items())
            message = f"{where} is not complete: {what or error}"
            raise CloudError(message, Trouble.LOCAL) from error
        except self.oci.exceptions.ClientError as error:
            raise CloudError(f"{where} cannot be used: {error}", Trouble.LOCAL) from error
        return _Identity(config, None, str(config["tenancy"]), str(config["region"]))

    def _instance(self) -> _Identity:
        try:
            signer = self.oci.auth.signers.InstancePrincipalsSecurityTokenSigner()
        except Exception as error:  # the SDK lets through whatever its parts raise
            raise CloudError(
                f"cannot log in to Oracle's cloud as this instance ({type(error).__name__}: {error}). It "
                "works only on an instance of Oracle's cloud, with a dynamic group that it belongs to; "
                'elsewhere set cloud.auth = "config"',
                Trouble.LOCAL,
            ) from error
        region = str(signer.region or self.access.region)
        return _Identity({"region": region}, signer, str(signer.tenancy_id), region)

    def _client(self, service: str, place: str) -> Any:
        with self._lock:
            if (service, place) not in self._clients:
                self._clients[service, place] = self._open(service, place)
            return self._clients[service, place]

    def _open(self, service: str, place: str) -> Any:
        config, signer = self._identity.config, self._identity.signer
        options: dict[str, Any] = {
            "timeout": _TIMEOUT,
            "retry_strategy": self.oci.retry.NoneRetryStrategy(),
            "circuit_breaker_strategy": self.oci.circuit_breaker.NoCircuitBreakerStrategy(),
        }
        if signer is not None:
            options["signer"] = signer
        package, name = _CLIENTS[service]
        module = importlib.import_module(f"oci.{package}")
        try:
            if service == "identity_domains":
                address = self.access.endpoints.get(service, place)
                return module.IdentityDomainsClient(config, address, **options)
            if service in self.access.endpoints:
                options["service_endpoint"] = self.access.endpoints[service]
            return getattr(module, name)({**config, "region": place}, **options)
        except (self.oci.exceptions.ClientError, OSError, ValueError) as error:
            raise CloudError(f"cannot log in to Oracle's cloud: {error}", Trouble.LOCAL) from error


def _reply(error: Any) -> Reply:
    """What a ServiceError tells. Identity domains word it as SCIM does (RFC 7644 3.12), which the SDK leaves aside."""
    code, message = error.code, error.message
    details = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
    if code is None and details.get("detail"):
        more = [
            value["messageId"]
            for value in details.values()
            if isinstance(value, dict) and "messageId" in value
        ]
        code, message = (*more, "SCIM")[0], details["detail"]
    return Reply(error.status, str(code), str(message), dict(error.headers or {}))


def _reason(error: BaseException) -> str:
    """The text of a chain of wrapped exceptions, on one line."""
    return " ".join(str(error).split())[:2000] or type(error).__name__


def _shortened(reason: str) -> str:
    """The innermost cause: urllib3 writes each pool and connection around it."""
    inner = re.search(r"Failed to resolve \\?'[^'\\]+|\[Errno -?\d+\] [^)'\"\\]+", reason)
    if inner is None or "CERTIFICATE_VERIFY_FAILED" in reason:
        return reason[:300]
    return inner[0].replace("\\", "").replace("'", "")
