# Whoever has a domain decides what its servers answer, and whoever is near decides what arrives. Nothing of that may
# stop Todoku, keep it busy, or get at somebody's terminal.

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import dns.flags
import dns.message
import dns.rrset
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from internet import Internet

from todoku.dns import diagnosis, dmarc, overview, spf, spf_cost, text
from todoku.dns.client import Names
from todoku.dns.lookups import Answer, Lookups, Server, Status, send, spf_resolve
from todoku.dns.manual import Manual
from todoku.dns.merging import Merge
from todoku.dns.problems import DmarcProblem, RecordProblem, SpfProblem
from todoku.dns.records import RecordSet
from todoku.dns.resources import RecordSetResource
from todoku.plan.outputs import Outputs
from todoku.plan.resource import LookFailed, NotYet

ZONE = "hoge.example"
SERVER = Server("ns.hoge.example", "127.0.0.1")
SPF = RecordSet(ZONE, "TXT", ("v=spf1 include:relay.example ~all",), 300, "SPF", Merge.SPF)
DMARC = RecordSet(
    f"_dmarc.{ZONE}", "TXT", ("v=DMARC1; p=none; rua=mailto:a@hoge.example",), 300, "", Merge.DMARC
)


# --- what arrives


def _replying(change: Callable[[bytes], bytes]) -> Lookups:
    """Look-ups that get a correct answer whose bytes were changed on the way."""

    def ask(query: dns.message.Message, _address: str, _port: int, _seconds: float) -> dns.message.Message:
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.AA
        name = query.question[0].name
        reply.answer.append(dns.rrset.from_text(name, 60, "IN", "TXT", '"v=spf1 -all" "more"', '"proof"'))
        reply.authority.append(dns.rrset.from_text("hoge.example.", 60, "IN", "SOA", "a. b. 1 2 3 4 5"))
        return dns.message.from_wire(change(reply.to_wire()))

    return Lookups(("127.0.0.1",), send=ask)


@given(st.binary(max_size=300))
def test_any_bytes_are_an_answer_or_none(data: bytes) -> None:
    answer = _replying(lambda _wire: data).ask(SERVER, ZONE, "TXT")
    assert isinstance(answer, Answer)


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.integers(2, 110), st.integers(0, 255)), min_size=1, max_size=12),
    st.integers(20, 200),
)
def test_an_answer_with_wrong_bytes_in_it_is_read_or_taken_for_none(
    wrong: list[tuple[int, int]], length: int
) -> None:
    def change(wire: bytes) -> bytes:
        changed = bytearray(wire)
        for at, byte in wrong:
            changed[at % len(changed)] = byte
        return bytes(changed[:length])

    answer = _replying(change).ask(SERVER, ZONE, "TXT")
    for value in answer.values:
        assert text.short(value).isprintable()
        text.presentation("TXT", value).encode("ascii")


@given(st.text(max_size=80) | st.text("%{d}.ab/\\\"'-_", max_size=300), st.sampled_from(["A", "MX", "TXT"]))
def test_any_name_can_be_asked_for(name: str, type_: str) -> None:
    assert _replying(lambda wire: wire).ask(SERVER, name, type_).status in Status


@pytest.mark.parametrize("loops", [True, False])
def test_a_chain_of_cnames_ends(loops: bool) -> None:
    names = [f"n{number}.{ZONE}." for number in range(40)]

    def ask(query: dns.message.Message, *_rest: object) -> dns.message.Message:
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.AA
        targets = [*names[1:], names[0] if loops else "end.example."]
        for name, target in zip(names, targets, strict=True):
            reply.answer.append(dns.rrset.from_text(name, 60, "IN", "CNAME", target))
        return reply

    answer = Lookups((), send=ask).ask(SERVER, f"n0.{ZONE}", "TXT")
    assert (answer.status, answer.values, answer.cname) == (Status.NO_DATA, (), f"n1.{ZONE}")


@pytest.fixture
def forger() -> Iterator[int]:
    """A name server that answers twice: garbage and somebody else's answer first, then the right one; its port."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    server.settimeout(5)

    def serve() -> None:
        wire, client = server.recvfrom(4096)
        query = dns.message.from_wire(wire)
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.AA
        reply.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "TXT", '"right"'))
        forged = dns.message.from_wire(reply.to_wire())
        forged.id ^= 1
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(reply.to_wire().replace(b"right", b"wrong"), client)
        for datagram in (b"\xff" * 40, forged.to_wire().replace(b"right", b"wrong"), reply.to_wire()):
            server.sendto(datagram, client)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield server.getsockname()[1]
    thread.join()
    server.close()


def test_forged_answers_are_passed_over(forger: int) -> None:
    answer = Lookups((), send=send).ask(Server("it", "127.0.0.1", forger), ZONE, "TXT")
    assert answer.values == ("right",)


# --- what it says


@pytest.mark.parametrize(
    "record",
    [
        "v=DMARC1; a=x" + " " * 60_000 + "y",
        "v=DMARC1;" + " " * 60_000 + "x",
        "v=DMARC1; p" + " " * 60_000 + "=" + " " * 1000,
        "v=DMARC1" + ";" * 60_000,
        "v=spf1 " + "a" * 60_000,
        "v=spf1 a:" + "a." * 30_000 + "%",
        "v=spf1 exists:" + "%{i}" * 15_000 + "!",
        "v=spf1 " + "a/" * 30_000,
        "v=spf1 x=" + "%" * 60_000,
        "v=spf1" + " " * 60_000 + "-all",
        '"' * 60_000,
        '" ' * 30_000,
        "\\" * 60_001,
    ],
)
def test_a_text_of_sixty_thousand_bytes_keeps_nobody_busy(record: str) -> None:
    began = time.process_time()
    for read in (spf.parse, dmarc.parse):
        try:
            read(record)
        except RecordProblem as problem:
            assert len(str(problem)) < 400
            assert str(problem).isprintable()
    text.plain("TXT", record)
    assert time.process_time() - began < 2


def _names(world: Internet) -> Names:
    lookups = world.lookups()
    return Names(Manual(lookups), lookups, Outputs(), (ZONE,), patience=0.1, sleep=lambda _seconds: None)


def _quoted(data: bytes) -> str:
    return text.presentation("TXT", text.decoded(data))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.binary(max_size=600)
        | st.binary(max_size=200).map(b"v=spf1 ".__add__)
        | st.binary(max_size=200).map(b"v=DMARC1; ".__add__),
        max_size=4,
    )
)
def test_whatever_is_published_is_merged_or_told_in_words(published: list[bytes]) -> None:
    world = Internet()
    world.zone("relay.example", {("relay.example", "TXT"): ['"v=spf1 -all"']})
    there = [_quoted(data) for data in published]
    world.zone(ZONE, {(ZONE, "TXT"): there, (f"_dmarc.{ZONE}", "TXT"): there} if there else {})
    names = _names(world)
    for record in (SPF, DMARC):
        resource = RecordSetResource(record)
        try:
            change = resource.differ(resource.look(names))
        except (LookFailed, NotYet) as told:
            assert str(told).isprintable()
            assert len(str(told)) < 1500
        else:
            if change is not None:
                change.detail.encode("ascii")
        shown = overview.row(names, record)
        assert all(remark.isprintable() for remark in shown.remarks)


def test_a_thousand_values_that_servers_do_not_agree_about_are_told_briefly() -> None:
    world = Internet()
    many = [f'"{number} {"x" * 200}"' for number in range(150)]
    world.zone(ZONE, {(ZONE, "TXT"): many}, {(ZONE, "TXT"): ['"\\027[2J\\255"']})
    (trouble,) = diagnosis.examine(world.lookups(), ZONE, "TXT", ["right"]).troubles
    assert trouble.kind == "split"
    assert "and 145 more" in trouble.text
    assert len(trouble.text) < 1500
    assert trouble.text.isprintable()


# --- where it leads


_GRAPH = [f"g{number}.example" for number in range(8)]
_TERM = st.one_of(
    st.sampled_from(_GRAPH).map("include:{}".format),
    st.sampled_from(_GRAPH).map("redirect={}".format),
    st.sampled_from(_GRAPH).map("mx:{}".format),
    st.sampled_from(["a", "mx", "ptr", "exists:%{i}.x.example", "include:%{d}", "a:%{D}", "redirect=%{d}"]),
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(_TERM, max_size=12), min_size=8, max_size=8),
    st.lists(st.sampled_from(_GRAPH), max_size=15),
)
def test_includes_that_lead_anywhere_come_to_an_end(graph: list[list[str]], exchanges: list[str]) -> None:
    asked = 0

    def resolve(name: str, type_: str) -> list[str]:
        nonlocal asked
        asked += 1
        if type_ == "MX":
            return [f"10 {host}" for host in exchanges]
        if type_ == "TXT" and name in _GRAPH:
            return [" ".join(["v=spf1", *graph[_GRAPH.index(name)]])]
        return []

    try:
        cost = spf_cost.count(" ".join(["v=spf1", *graph[0]]), _GRAPH[0], resolve)
    except SpfProblem:
        return
    assert asked <= 700
    assert len(cost.charges) <= 4 * spf_cost.MOST_LOOKUPS + 1


def test_a_slow_dns_is_not_waited_for_without_end() -> None:
    def slow(query: dns.message.Message, *_rest: object) -> dns.message.Message:
        time.sleep(0.02)
        reply = dns.message.make_response(query)
        reply.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", "192.0.2.1"))
        return reply

    resolve = spf_resolve(Lookups(("127.0.0.1",), send=slow), seconds=0.2)
    with pytest.raises(LookupError, match=r"more than 0\.2 s for the whole record"):
        for number in range(100):
            resolve(f"n{number}.example", "A")


@pytest.mark.parametrize("error", [DmarcProblem, SpfProblem])
def test_two_records_of_one_kind_are_quoted_briefly(error: type[RecordProblem]) -> None:
    world = Internet()
    begin = b"v=spf1 " if error is SpfProblem else b"v=DMARC1; "
    record = SPF if error is SpfProblem else DMARC
    both = [_quoted(begin + bytes([27]) + b"x" * 5000), _quoted(begin + b"y" * 5000)]
    world.zone(ZONE, {(str(record.name), "TXT"): both})
    with pytest.raises(LookFailed, match="there are 2 ") as told:
        RecordSetResource(record).look(_names(world))
    assert str(told.value).isprintable()
    assert len(str(told.value)) < 500
