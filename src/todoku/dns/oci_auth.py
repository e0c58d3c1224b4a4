"""A client of Oracle's DNS service, made with the SDK as the settings say who we are.

`oci` is imported only here, and only when records are really published there: it takes a third of a second,
and most mail hosts have their DNS elsewhere.
"""

from __future__ import annotations

import importlib
from typing import Any

from todoku.dns.oci_caller import Caller
from todoku.dns.publisher import PublisherFailed
from todoku.settings import Settings
from todoku.settings.outside import Cloud

_TIMEOUT = (10.0, 60.0)  # seconds to connect, to wait for an answer


def sdk() -> Any:
    """The package `oci`. Raises PublisherFailed when it is not installed."""
    try:
        return importlib.import_module("oci")
    except ImportError:
        raise PublisherFailed(
            "publishing in Oracle's DNS service needs Oracle's SDK: `pip install 'todoku[cloud]'`"
        ) from None


def client(settings: Settings) -> tuple[Any, Caller]:
    """An `oci.dns.DnsClient`, and as whom it asks. Raises PublisherFailed."""
    oci = sdk()
    dns = importlib.import_module("oci.dns")
    cloud = settings.cloud
    if cloud is not None and cloud.auth == "instance_principal":
        made = dns.DnsClient({}, signer=_instance(oci), timeout=_TIMEOUT, retry_strategy=patience(oci))
        return made, Caller(oci)
    config = _config(oci, cloud)
    return dns.DnsClient(config, timeout=_TIMEOUT, retry_strategy=patience(oci)), Caller(oci, config)


def patience(oci: Any) -> Any:
    """Again after 429, 5xx and a lost connection, for a minute. The SDK's own strategy goes on for ten."""
    return oci.retry.RetryStrategyBuilder(
        max_attempts_check=True,
        max_attempts=6,
        total_elapsed_time_check=True,
        total_elapsed_time_seconds=60,
        service_error_check=True,
        service_error_retry_on_any_5xx=True,
        service_error_retry_config={429: []},
        retry_base_sleep_time_seconds=0.5,
        retry_max_wait_between_calls_seconds=10,
        backoff_type=oci.retry.BACKOFF_FULL_JITTER_EQUAL_ON_THROTTLE_VALUE,
    ).get_retry_strategy()


def compartment(settings: Settings) -> str:
    """The compartment of the zones."""
    own = settings.dns.compartment if settings.dns is not None else None
    if own is not None:
        return own
    assert settings.cloud is not None, "the rules require one of both"  # noqa: S101
    return settings.cloud.compartment


def _config(oci: Any, cloud: Cloud | None) -> dict[str, Any]:
    file = str(cloud.config_file) if cloud is not None else str(oci.config.DEFAULT_LOCATION)
    profile = cloud.profile if cloud is not None else str(oci.config.DEFAULT_PROFILE)
    try:
        config: dict[str, Any] = oci.config.from_file(file, profile)
        oci.config.validate_config(config)
    except (oci.exceptions.ClientError, ValueError, OSError) as error:
        raise PublisherFailed(
            f"the file {file} (profile {profile}) does not say who Todoku is in Oracle's cloud: {error}. Make it "
            "with `oci setup config`, or set cloud.config_file and cloud.profile"
        ) from None
    return config


def _instance(oci: Any) -> Any:
    try:
        return oci.auth.signers.InstancePrincipalsSecurityTokenSigner()
    except Exception as error:  # what the SDK raises here depends on how the metadata service fails
        raise PublisherFailed(
            f"this machine could not show Oracle's cloud who it is ({type(error).__name__}): auth = "
            '"instance_principal" works on an Oracle instance in a dynamic group that has been given the rights'
        ) from None
