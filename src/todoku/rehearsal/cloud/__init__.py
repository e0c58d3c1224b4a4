"""Oracle's cloud, simulated: Email Delivery's control plane, Identity, DNS and instance metadata over HTTP.

Independent of the official SDK, which is one of the clients that it is proven with. Statuses, fields and states
follow that SDK (version 2.189.0) and Oracle's public pages; what they do not say is answered as harshly as is
plausible, and the comment says "not published".
"""

from .client import ClientConfig, new_tenancy, write_client_config
from .cloud import Cloud, CloudListens, certificate_names

__all__ = ["ClientConfig", "Cloud", "CloudListens", "certificate_names", "new_tenancy", "write_client_config"]
