# "It had stopped on Friday, and nobody knew": what has to be looked at is told to the postmaster, until it is done.

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest
from test_campaign_sending import started

from todoku.campaign import __main__ as service
from todoku.campaign import campaigns, health
from todoku.campaign.opened import Opened
from todoku.delivery import alarms


def test_a_campaign_that_has_stopped_itself_is_told_until_somebody_has_looked(
    opened: Opened, news: int
) -> None:
    started(opened, news, 3)
    assert service._stopped(opened) == []
    health.stop(opened, 1, "spring", "12 of 200 bounced or were refused (6 %; 5 % is too much)")
    ((name, found, advice),) = service._stopped(opened)
    assert name == "stopped:spring"
    assert "spring has stopped itself: 12 of 200" in found and "campaign start spring" in advice
    campaigns.start(opened, "spring")
    assert service._stopped(opened) == []


def test_what_sends_has_no_right_to_tell_the_postmaster_itself_and_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, list[alarms.Alarm]]] = []
    monkeypatch.setattr(alarms, "report", lambda source, found: told.append((source, list(found))))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    passing = threading.Thread(target=service._pass_on, args=(ours,))
    passing.start()
    for octets in (b"no JSON", b"[[1]]", json.dumps([["stopped:spring", "it has stopped", "look"]]).encode()):
        theirs.sendall(octets)
    theirs.close()
    passing.join(30)
    ours.close()
    assert not passing.is_alive()
    ((source, (alarm,)),) = told
    assert source == "campaign"
    assert (alarm.name, alarm.found, alarm.advice) == ("stopped:spring", "it has stopped", "look")
