"""All of `api.Api` with the SDK, put together as the settings say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from todoku.cloud.api import Api
from todoku.cloud.errors import Attempt
from todoku.cloud.permissions import Right
from todoku.cloud.sdk import Access, Sdk
from todoku.cloud.sdk_domains import SdkDomainPeople
from todoku.cloud.sdk_email import SdkEmail
from todoku.cloud.sdk_identity import SdkPeople, SdkTenancy
from todoku.cloud.sdk_logging import SdkLogging
from todoku.cloud.sdk_network import SdkNetwork
from todoku.cloud.values import IdentityDomain
from todoku.settings import Settings

_DEFAULT = "default"


class _Common(SdkEmail, SdkLogging, SdkTenancy, SdkNetwork):
    """What does not depend on the identity domain."""

    def __init__(self, sdk: Sdk) -> None:
        SdkEmail.__init__(self, sdk)
        self._sdk = sdk

    @property
    def compartment(self) -> str:
        return self._sdk.access.compartment

    @property
    def tenancy(self) -> str:
        return self._sdk.tenancy

    @property
    def sending_region(self) -> str:
        return self._sdk.access.region

    def attempt(self, to: str, right: Right) -> Attempt:
        return self._sdk.attempt(to, right)


class _InDefault(_Common, SdkPeople):
    """With the people of the older IAM, or of the domain Default."""


class _InOtherDomain(_Common, SdkDomainPeople):
    """With the people of another identity domain."""

    def __init__(self, sdk: Sdk, domain: str) -> None:
        _Common.__init__(self, sdk)
        SdkDomainPeople.__init__(self, sdk, domain, self._every_identity_domain)

    def _every_identity_domain(self) -> Iterator[IdentityDomain]:
        """Those of the root compartment, where most are, and then those of ours."""
        yield from self.identity_domains()
        if self.compartment != self.tenancy:
            yield from self.identity_domains_in(self.compartment)


def open_api(access: Access) -> Api:
    """The calls that `access` makes possible. Nothing is asked yet, and `oci` is not imported."""
    sdk = Sdk(access)
    domain = access.identity_domain
    return _InDefault(sdk) if domain is None or domain.casefold() == _DEFAULT else _InOtherDomain(sdk, domain)


def access_of(settings: Settings, endpoints: Mapping[str, str] | None = None) -> Access:
    """Who asks, and where, by the settings' [cloud] table."""
    cloud = settings.cloud
    if cloud is None:
        raise ValueError("the settings have no [cloud] table")
    return Access(
        compartment=cloud.compartment,
        region=settings.relay.region,
        auth=cloud.auth,
        config_file=cloud.config_file,
        profile=cloud.profile,
        identity_domain=cloud.identity_domain,
        endpoints=endpoints or {},
    )
