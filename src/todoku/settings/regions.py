"""Oracle's cloud regions: to which realm each belongs, its key, and what follows for Email Delivery.

The table is the one of Oracle's own SDK (`oci.regions_definitions`). That a region is in it does not prove
that Email Delivery is offered there. In the commercial realm (oc1) the relay's host name follows from the
region; elsewhere Oracle's console has to be asked, so the settings have to say it.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

COMMERCIAL = "oc1"

_LONGEST_NAME = 253  # characters, RFC 1035 3.1: 255 bytes on the wire
# SELECTOR.DOMAIN.dkim.CODE.oracleemaildelivery.com with the longest selector (63) and code.
_DKIM_TARGET_EXTRA = 63 + len(".") + len(".dkim.nrt1.oracleemaildelivery.com")

_REALM_DOMAINS = {
    "oc1": "oraclecloud.com",
    "oc2": "oraclegovcloud.com",
    "oc3": "oraclegovcloud.com",
    "oc4": "oraclegovcloud.uk",
    "oc8": "oraclecloud8.com",
    "oc9": "oraclecloud9.com",
    "oc10": "oraclecloud10.com",
    "oc14": "oraclecloud14.com",
    "oc15": "oraclecloud15.com",
    "oc19": "oraclecloud.eu",
    "oc20": "oraclecloud20.com",
    "oc21": "oraclecloud21.com",
    "oc23": "oraclecloud23.com",
    "oc24": "oraclecloud24.com",
    "oc26": "oraclecloud26.com",
    "oc29": "oraclecloud29.com",
    "oc35": "oraclecloud35.com",
    "oc42": "oraclecloud42.com",
    "oc51": "oraclecloud51.com",
    "oc52": "oraclecloud52.com",
}

# One line per realm: "region:key", as in the SDK.
_REGIONS = {
    "oc1": (
        "af-casablanca-1:lej af-johannesburg-1:jnb ap-batam-1:hsg ap-chuncheon-1:yny ap-delhi-1:onm "
        "ap-hyderabad-1:hyd ap-kulai-2:jbp ap-melbourne-1:mel ap-mumbai-1:bom ap-osaka-1:kix "
        "ap-seoul-1:icn ap-singapore-1:sin ap-singapore-2:xsp ap-sydney-1:syd ap-tokyo-1:nrt "
        "ca-montreal-1:yul ca-toronto-1:yyz eu-amsterdam-1:ams eu-frankfurt-1:fra eu-madrid-1:mad "
        "eu-madrid-3:orf eu-marseille-1:mrs eu-milan-1:lin eu-paris-1:cdg eu-stockholm-1:arn "
        "eu-turin-1:nrq eu-zurich-1:zrh il-jerusalem-1:mtz me-abudhabi-1:auh me-dubai-1:dxb "
        "me-jeddah-1:jed me-riyadh-1:ruh mx-monterrey-1:mty mx-queretaro-1:qro sa-bogota-1:bog "
        "sa-santiago-1:scl sa-saopaulo-1:gru sa-valparaiso-1:vap sa-vinhedo-1:vcp uk-cardiff-1:cwl "
        "uk-london-1:lhr us-ashburn-1:iad us-chicago-1:ord us-phoenix-1:phx us-saltlake-2:aga "
        "us-sanjose-1:sjc"
    ),
    "oc2": ("us-langley-1:lfi us-luke-1:luf"),
    "oc3": ("us-gov-ashburn-1:ric us-gov-chicago-1:pia us-gov-phoenix-1:tus"),
    "oc4": ("uk-gov-cardiff-1:brs uk-gov-london-1:ltn"),
    "oc8": ("ap-chiyoda-1:nja ap-ibaraki-1:ukb"),
    "oc9": ("me-dcc-muscat-1:mct me-ibri-1:ibr"),
    "oc10": ("ap-dcc-canberra-1:wga"),
    "oc14": (
        "eu-dcc-dublin-1:ork eu-dcc-dublin-2:snn eu-dcc-milan-1:bgy eu-dcc-milan-2:mxp "
        "eu-dcc-rating-1:dus eu-dcc-rating-2:dtm"
    ),
    "oc15": ("ap-dcc-gazipur-1:dac"),
    "oc19": ("eu-frankfurt-2:str eu-madrid-2:vll"),
    "oc20": ("eu-jovanovac-1:beg"),
    "oc21": ("me-alrayyan-1:vve me-dcc-doha-1:doh"),
    "oc23": ("us-somerset-1:ebb us-thames-1:ebl"),
    "oc24": ("eu-crissier-1:avf eu-dcc-zurich-1:avz"),
    "oc26": ("me-abudhabi-3:ahu me-alain-1:rba"),
    "oc29": ("me-abudhabi-2:rkt me-abudhabi-4:shj"),
    "oc35": ("ap-chuncheon-2:bno ap-seoul-2:dtz ap-suwon-1:dln"),
    "oc42": ("us-ashburn-2:yxj us-newark-1:pgc"),
    "oc51": ("eu-budapest-1:jsk"),
    "oc52": ("sa-riodejaneiro-1:hnw"),
}


# Oracle's page about SPF: one name for each group of commercial regions, by the first part of the region's id.
# It does not say to which group the Middle East, Africa and Israel belong, so they get the record that it
# gives for all commercial regions.
_SPF_AMERICAS = "rp.oracleemaildelivery.com"
_SPF_ASIA_PACIFIC = "ap.rp.oracleemaildelivery.com"
_SPF_EUROPE = "eu.rp.oracleemaildelivery.com"
_SPF_GROUPS = {
    **dict.fromkeys(("ca", "mx", "sa", "us"), (_SPF_AMERICAS,)),
    "ap": (_SPF_ASIA_PACIFIC,),
    **dict.fromkeys(("eu", "uk"), (_SPF_EUROPE,)),
}
_SPF_ALL = (_SPF_AMERICAS, _SPF_ASIA_PACIFIC, _SPF_EUROPE)
# The same page's examples for other realms. They do not follow from the realm's domain (oc8), so the realms
# that it does not list, the government ones among them, are not here.
_SPF_REALMS = {
    "oc8": ("rp.email.oci.jpsovereigncloud.jp",),
    "oc19": ("rp.email.oci.oraclecloud.eu",),
    "oc23": ("rp.email.oci.oraclecloud23.com",),
    "oc35": ("rp.email.oci.oraclecloud35.com",),
}


@dataclass(frozen=True, slots=True)
class Region:
    """One region: `id` is what people write ("ap-tokyo-1"), `key` Oracle's short name for it ("nrt")."""

    id: str
    realm: str
    key: str
    realm_domain: str

    @property
    def code(self) -> str | None:
        """The code in DKIM and return-path names under oracleemaildelivery.com: "nrt1".

        Seen for kix, iad, zrh, arn, yyz and nrt, and taken to hold for all of oc1; unknown (None) elsewhere.
        """
        return f"{self.key}1" if self.realm == COMMERCIAL else None

    @property
    def spf_include(self) -> tuple[str, ...]:
        """The names that SPF has to include so that Email Delivery in this region may send; none if unknown."""
        if self.realm == COMMERCIAL:
            return _SPF_GROUPS.get(self.id.partition("-")[0], _SPF_ALL)
        return _SPF_REALMS.get(self.realm, ())

    @property
    def relay_host(self) -> str | None:
        """The relay's SMTP host name; None outside oc1, where it cannot be told from the region."""
        return f"smtp.email.{self.id}.oci.{self.realm_domain}" if self.realm == COMMERCIAL else None


def _table() -> dict[str, Region]:
    return {
        region: Region(region, realm, key, _REALM_DOMAINS[realm])
        for realm, entries in _REGIONS.items()
        for region, _, key in (entry.partition(":") for entry in entries.split())
    }


REGIONS: MappingProxyType[str, Region] = MappingProxyType(_table())


def dkim_record_type(region: str, domain: str) -> Literal["CNAME", "TXT"]:
    """How the DKIM keys of `domain`, which sends in `region`, are published: one type for all of its keys.

    A CNAME to where Oracle publishes the key. TXT, the key itself, where Oracle's DKIM page says so (outside
    the commercial realm), and where the CNAME's target could become longer than a name can be.
    """
    known = REGIONS.get(region)
    commercial = known is None or known.realm == COMMERCIAL
    return "CNAME" if commercial and len(domain) + _DKIM_TARGET_EXTRA <= _LONGEST_NAME else "TXT"


def suggest(text: str) -> Region | None:
    """The region that `text` probably means: by its key ("nrt"), its city ("tokyo"), or a near miss."""
    wanted = text.strip().lower().replace("_", "-").replace(" ", "-")
    for region in REGIONS.values():
        if wanted in (region.id, region.key, region.code):
            return region
    by_city: dict[str, Region] = {}
    for region in REGIONS.values():
        by_city.setdefault(region.id.split("-", 1)[1].rsplit("-", 1)[0], region)
    if wanted in by_city:
        return by_city[wanted]
    near = difflib.get_close_matches(wanted, REGIONS, n=1, cutoff=0.6)
    if near:
        return REGIONS[near[0]]
    near = difflib.get_close_matches(wanted, by_city, n=1, cutoff=0.75)
    return by_city[near[0]] if near else None
