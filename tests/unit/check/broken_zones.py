"""The matrix of broken zones: each a small mutation of a zone in order, one that people really make, with what the
judge has to say of it. The unit tests look at them in memory; tests/world/test_check_matrix.py serves them with Knot.
"""

from __future__ import annotations

from collections.abc import Callable

from internet_for_checks import (
    ADDRESS,
    DOMAIN,
    HOST,
    RELAY,
    SELECTOR,
    Place,
    ed25519_key,
    elliptic_key,
    rsa_key,
    txt,
)

KEY = f"{SELECTOR}._domainkey.{DOMAIN}"
DMARC = f"_dmarc.{DOMAIN}"

Break = Callable[[Place], None]


def put(name: str, type_: str, *values: str) -> Break:
    return lambda place: place.ours.update({(name, type_): list(values)})


def gone(name: str, type_: str) -> Break:
    return lambda place: place.ours.pop((name, type_)) and None


def spf(*texts: str) -> Break:
    return put(DOMAIN, "TXT", *map(txt, texts))


def key(*texts: str) -> Break:
    return put(KEY, "TXT", *map(txt, texts))


def dmarc(*texts: str) -> Break:
    return put(DMARC, "TXT", *map(txt, texts))


def alias(name: str, target: str) -> Break:
    def change(place: Place) -> None:
        for known in [known for known in place.ours if known[0] == name]:
            del place.ours[known]
        place.ours[name, "CNAME"] = [f"{target}."]

    return change


def circle(place: Place) -> None:
    alias(KEY, f"b.{DOMAIN}")(place)
    place.ours[f"b.{DOMAIN}", "CNAME"] = [f"{KEY}."]


def moved(place: Place) -> None:
    place.ours[f"x._domainkey.{DOMAIN}", "TXT"] = place.ours.pop((KEY, "TXT"))


def host_alias(place: Place) -> None:
    alias(HOST, f"real.{DOMAIN}")(place)
    place.ours[f"real.{DOMAIN}", "A"] = [ADDRESS]


def many_includes(number: int) -> Break:
    def change(place: Place) -> None:
        for n in range(number):
            place.ours[f"s{n}.{DOMAIN}", "TXT"] = [txt("v=spf1 ip4:192.0.2.1 ~all")]
        terms = " ".join(f"include:s{n}.{DOMAIN}" for n in range(number))
        place.ours[DOMAIN, "TXT"] = [txt(f"v=spf1 include:{RELAY} {terms} ~all")]

    return change


def void(number: int) -> Break:
    terms = " ".join(f"a:no{n}.{DOMAIN}" for n in range(number))
    return spf(f"v=spf1 include:{RELAY} {terms} ~all")


def spf_circle(place: Place) -> None:
    spf(f"v=spf1 include:{RELAY} include:s.{DOMAIN} ~all")(place)
    place.ours[f"s.{DOMAIN}", "TXT"] = [txt(f"v=spf1 include:{DOMAIN} ~all")]


def lame(place: Place) -> None:
    place.second = dict(place.ours)
    place.lookups()
    place.internet.lame.add(sorted(place.internet.zones[DOMAIN])[1])


def all_silent(place: Place) -> None:
    place.lookups()
    place.internet.silent |= set(place.internet.zones[DOMAIN])


def split(place: Place) -> None:
    place.second = {**place.ours, (DOMAIN, "MX"): ["10 old.hoge.example."]}


def bogus(place: Place) -> None:
    place.internet.bogus.add(DOMAIN)


P = rsa_key(2048)
SPF_OK = f"v=spf1 include:{RELAY}"

# name -> what is broken, the rules that fail, the rules that warn
MUTATIONS: dict[str, tuple[Break, set[str], set[str]]] = {
    # SPF
    "spf missing": (gone(DOMAIN, "TXT"), {"spf.record"}, set()),
    "spf doubled": (spf(f"{SPF_OK} ~all", "v=spf1 ip4:192.0.2.1 -all"), {"spf.record"}, set()),
    "spf doubled, the same twice": (spf(f"{SPF_OK} ~all", f"{SPF_OK} -all"), {"spf.record"}, set()),
    "spf version misspelt": (spf(f"v=spf include:{RELAY} ~all"), {"spf.record"}, set()),
    "spf with version 2": (spf(f"spf2.0/mfrom include:{RELAY} ~all"), {"spf.record"}, set()),
    "spf with a space before it": (spf(f" {SPF_OK} ~all"), {"spf.record"}, set()),
    "spf in quotes within quotes": (spf(f'"{SPF_OK} ~all"'), {"spf.record"}, set()),
    "spf without a space after the version": (spf(f"v=spf1include:{RELAY} ~all"), {"spf.record"}, set()),
    "spf truncated in a name": (spf("v=spf1 include:ap.rp.oracleemail ~all"), {"spf.targets"}, set()),
    "spf truncated after the colon": (spf("v=spf1 include:"), {"spf.syntax"}, set()),
    "spf with an unknown mechanism": (spf(f"{SPF_OK} ipv4:192.0.2.1 ~all"), {"spf.syntax"}, set()),
    "spf with a broken network": (spf(f"{SPF_OK} ip4:192.0.2.300 ~all"), {"spf.syntax"}, set()),
    "spf with trailing junk": (spf(f'{SPF_OK} ~all"'), {"spf.syntax"}, set()),
    "spf with a comma": (spf(f"v=spf1, include:{RELAY}, ~all"), {"spf.record"}, set()),
    "spf with redirect twice": (
        spf(f"{SPF_OK} redirect=outside.example redirect=outside.example"), {"spf.syntax"}, set(),
    ),
    "spf split without a space": (
        put(DOMAIN, "TXT", f'"v=spf1 include:{RELAY}" "~all"'), {"spf.syntax"}, set(),
    ),
    "spf with terms behind all": (spf(f"{SPF_OK} ~all ip4:192.0.2.1"), set(), {"spf.syntax"}),
    "spf with all and redirect": (spf(f"{SPF_OK} redirect=outside.example ~all"), set(), {"spf.syntax"}),
    "spf with ptr": (spf(f"{SPF_OK} ptr ~all"), set(), {"spf.ptr"}),
    "spf with 11 look-ups": (many_includes(10), {"spf.lookups"}, set()),
    "spf with 10 look-ups": (many_includes(9), set(), {"spf.lookups"}),
    "spf with 3 look-ups in vain": (void(3), {"spf.lookups"}, set()),
    "spf in a circle": (spf_circle, {"spf.targets"}, set()),
    "spf include without a record": (spf(f"{SPF_OK} include:{HOST} ~all"), {"spf.targets"}, set()),
    "spf redirect to nothing": (spf(f"{SPF_OK} redirect={HOST}"), {"spf.targets"}, set()),
    "spf lets everybody in": (spf(f"{SPF_OK} +all"), {"spf.all"}, set()),
    "spf lets everybody in by network": (spf(f"{SPF_OK} ip4:0.0.0.0/0 -all"), {"spf.all"}, set()),
    "spf lets many in": (spf(f"{SPF_OK} ip4:192.0.0.0/10 -all"), set(), {"spf.all"}),
    "spf without all": (spf(SPF_OK), set(), {"spf.all"}),
    "spf neutral": (spf(f"{SPF_OK} ?all"), set(), {"spf.all"}),
    # DKIM
    "dkim missing": (gone(KEY, "TXT"), {"dkim.record"}, set()),
    "dkim at another selector as well": (alias("x._domainkey.hoge.example", KEY), set(), set()),
    "dkim at another selector only": (moved, {"dkim.record"}, set()),
    "dkim in lower case": (key(f"v=DKIM1; k=rsa; p={P.lower()}"), {"dkim.record"}, set()),
    "dkim split in the middle, with a space": (
        put(KEY, "TXT", f'"v=DKIM1; k=rsa; p={P[:200]}" " {P[200:]}"'), set(), set(),
    ),
    "dkim as two records instead of two strings": (
        key(f"v=DKIM1; k=rsa; p={P[:200]}", P[200:]), {"dkim.record"}, set(),
    ),
    "dkim doubled": (key(f"v=DKIM1; p={P}", f"v=DKIM1; p={rsa_key(1024)}"), {"dkim.record"}, set()),
    "dkim truncated": (key(f"v=DKIM1; k=rsa; p={P[:200]}"), {"dkim.record"}, set()),
    "dkim truncated in a group of four": (key(f"v=DKIM1; k=rsa; p={P[:-7]}"), {"dkim.record"}, set()),
    "dkim revoked": (key("v=DKIM1; p="), {"dkim.record"}, set()),
    "dkim without p": (key("v=DKIM1; k=rsa"), {"dkim.record"}, set()),
    "dkim version misspelt": (key(f"v=DKIM2; p={P}"), {"dkim.record"}, set()),
    "dkim version in lower case": (key(f"v=dkim1; p={P}"), {"dkim.record"}, set()),
    "dkim version last": (key(f"p={P}; v=DKIM1"), {"dkim.record"}, set()),
    "dkim with trailing junk": (key(f"v=DKIM1; p={P}; junk"), {"dkim.record"}, set()),
    "dkim with quotes inside": (key(f'v=DKIM1; p="{P}"'), {"dkim.record"}, set()),
    "dkim of 512 bits": (
        key("v=DKIM1; p=MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAJvmbKqNGJVGBnDbYJ1Q3ScOEsEl4HmAy9JmBVCUWlrWHEYn4+Z0H3uDC9Um2z/"
            "A0XJqL9zPV2yAcgaGLcyLgtMCAwEAAQ=="),
        {"dkim.length"}, set(),
    ),
    "dkim of 1024 bits": (key(f"v=DKIM1; p={rsa_key(1024)}"), set(), {"dkim.length"}),
    "dkim with Ed25519 alone": (key(f"v=DKIM1; k=ed25519; p={ed25519_key()}"), set(), {"dkim.type"}),
    "dkim with Ed25519 of a wrong length": (key("v=DKIM1; k=ed25519; p=AAAA"), {"dkim.record"}, set()),
    "dkim with an elliptic key": (key(f"v=DKIM1; p={elliptic_key()}"), {"dkim.record"}, set()),
    "dkim of an unknown kind": (key(f"v=DKIM1; k=dsa; p={P}"), {"dkim.record"}, set()),
    "dkim for a test": (key(f"v=DKIM1; t=y; p={P}"), set(), {"dkim.test"}),
    "dkim with SHA-1 only": (key(f"v=DKIM1; h=sha1; p={P}"), {"dkim.record"}, set()),
    "dkim for another service": (key(f"v=DKIM1; s=tlsrpt; p={P}"), {"dkim.record"}, set()),
    "dkim CNAME to nothing": (alias(KEY, "sel.dkim.outside.example"), {"dkim.record"}, set()),
    "dkim CNAME in a circle": (circle, {"dkim.record"}, set()),
    # DMARC
    "dmarc missing": (gone(DMARC, "TXT"), {"dmarc.record"}, set()),
    "dmarc doubled": (dmarc("v=DMARC1; p=none", "v=DMARC1; p=reject"), {"dmarc.record"}, set()),
    "dmarc in lower case": (dmarc("v=dmarc1; p=reject"), {"dmarc.record"}, set()),
    "dmarc with v last": (dmarc("p=reject; v=DMARC1"), {"dmarc.record"}, set()),
    "dmarc without p and rua": (dmarc("v=DMARC1; sp=none"), {"dmarc.syntax"}, {"dmarc.reports"}),
    "dmarc without p": (dmarc("v=DMARC1; rua=mailto:postmaster@hoge.example"), {"dmarc.syntax"}, {"dmarc.policy"}),
    "dmarc with p misspelt": (
        dmarc("v=DMARC1; p=rejected; rua=mailto:postmaster@hoge.example"), {"dmarc.syntax"}, {"dmarc.policy"},
    ),
    "dmarc with a tag twice": (dmarc("v=DMARC1; p=none; p=reject"), {"dmarc.syntax"}, set()),
    "dmarc with trailing junk": (dmarc("v=DMARC1; p=reject; junk"), {"dmarc.syntax"}, set()),
    "dmarc with an unknown alignment": (
        dmarc("v=DMARC1; p=reject; adkim=strict; rua=mailto:postmaster@hoge.example"), set(), {"dmarc.syntax"},
    ),
    "dmarc with pct": (
        dmarc("v=DMARC1; p=reject; pct=50; rua=mailto:postmaster@hoge.example"), set(), {"dmarc.syntax"},
    ),
    "dmarc with p=none": (dmarc("v=DMARC1; p=none; rua=mailto:postmaster@hoge.example"), set(), {"dmarc.policy"}),
    "dmarc under test": (dmarc("v=DMARC1; p=quarantine; t=y; rua=mailto:a@hoge.example"), set(), {"dmarc.policy"}),
    "dmarc without reports": (dmarc("v=DMARC1; p=reject"), set(), {"dmarc.reports"}),
    "dmarc reports without mailto": (dmarc("v=DMARC1; p=reject; rua=a@hoge.example"), set(), {"dmarc.reports"}),
    "dmarc reports to nowhere": (dmarc("v=DMARC1; p=reject; rua=mailto:a@no.hoge.example"), set(), {"dmarc.reports"}),
    "dmarc reports not authorised": (
        dmarc("v=DMARC1; p=reject; rua=mailto:a@outside.example"), set(), {"dmarc.reports"},
    ),
    "dmarc as a CNAME to nothing": (alias(DMARC, "d.outside.example"), {"dmarc.record"}, set()),
    # MX
    "mx and address missing": (gone(DOMAIN, "MX"), {"mx.record"}, {"dmarc.reports"}),
    "mx null": (put(DOMAIN, "MX", "0 ."), {"mx.record"}, {"dmarc.reports"}),
    "mx with an address": (put(DOMAIN, "MX", "10 203.0.113.10."), {"mx.host"}, set()),
    "mx host without an address": (gone(HOST, "A"), {"mx.host"}, set()),
    "mx host on a private address": (put(HOST, "A", "192.168.0.10"), {"mx.host"}, set()),
    "mx host on loopback": (put(HOST, "A", "127.0.0.1"), {"mx.host"}, set()),
    "mx host as an alias": (host_alias, set(), {"mx.host"}),
    # what is promised about TLS; the policies themselves are in test_check_inbound_tls.py
    "mta-sts doubled": (
        put(f"_mta-sts.{DOMAIN}", "TXT", '"v=STSv1; id=1"', '"v=STSv1; id=2"'), set(), {"mta-sts.policy"},
    ),
    "mta-sts without an id": (put(f"_mta-sts.{DOMAIN}", "TXT", '"v=STSv1;"'), set(), {"mta-sts.policy"}),
    "mta-sts in lower case": (put(f"_mta-sts.{DOMAIN}", "TXT", '"v=stsv1; id=1"'), set(), {"mta-sts.policy"}),
    "tls-rpt in order": (
        put(f"_smtp._tls.{DOMAIN}", "TXT", f'"v=TLSRPTv1; rua=mailto:tls@{DOMAIN}"'), set(), set(),
    ),
    "tls-rpt doubled": (
        put(f"_smtp._tls.{DOMAIN}", "TXT", *[f'"v=TLSRPTv1; rua=mailto:{a}@{DOMAIN}"' for a in "ab"]), set(),
        {"tls-rpt.record"},
    ),
    "tls-rpt without rua": (put(f"_smtp._tls.{DOMAIN}", "TXT", '"v=TLSRPTv1;"'), set(), {"tls-rpt.record"}),
    "tls-rpt without mailto": (
        put(f"_smtp._tls.{DOMAIN}", "TXT", f'"v=TLSRPTv1; rua=tls@{DOMAIN}"'), set(), {"tls-rpt.record"},
    ),
    "tls-rpt to nowhere": (
        put(f"_smtp._tls.{DOMAIN}", "TXT", f'"v=TLSRPTv1; rua=mailto:a@no.{DOMAIN}"'), set(), {"tls-rpt.record"},
    ),
    # the zone
    "a lame server": (lame, set(), {"dns.delegation"}),
    "servers that disagree": (split, set(), {"dns.delegation"}),
}  # fmt: skip
