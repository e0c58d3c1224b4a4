"""The fault switchboard: what is switched happens, a mistake is explained and changes nothing."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request

import pytest
from conftest import LETTER, PASSWORD, Around, until

from todoku.rehearsal.smtp.client import Client


async def ask(
    around: Around, body: object = None, method: str | None = None, raw: bytes | None = None
) -> tuple[int, dict]:
    """One HTTP request by a client that we did not write."""
    listen = around.internet.switchboard.listen
    content = raw if raw is not None else json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(f"http://{listen.host}:{listen.port}/", content, method=method)

    def call() -> tuple[int, dict]:
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as problem:
            return problem.code, json.load(problem)

    return await asyncio.to_thread(call)


async def greeting(around: Around):
    listen = around.relay.server.listens[0]
    return await Client(5).connect(listen.host, listen.port)


def test_get_shows_the_state_and_what_was_seen_without_secrets(play):
    async def scene(around: Around):
        await around.submit()
        await until(lambda: around.relay.seen.relayed)
        status, shown = await ask(around)
        assert status == 200
        assert (shown["latency_ms"], shown["reply"], shown["down"], shown["suppress"]) == (0, None, False, [])
        assert shown["limits"]["per_minute"] == 18_000
        assert "@hoge.example" in shown["senders"]
        seen = shown["seen"]
        assert (seen["connections"], seen["auths"], seen["messages"]) == (1, 1, 1)
        assert [reply["text"] for reply in seen["replies"]][-3:] == [
            "354 Start mail input; end with <CRLF>.<CRLF>",
            "250 Ok",
            f"221 {around.plan.relay_hostname} closing connection",
        ]
        assert seen["submitted"][0]["message_id"] == "<1@mx.hoge.example>"
        assert seen["relayed"][0]["reply"] == "250 2.0.0 Ok"
        assert PASSWORD not in json.dumps(shown)

    play(scene)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"latency": 1}, "unknown key latency; the keys are reset, latency_ms, reply, suppress, "),
        ({"latency_ms": -1}, "latency_ms has to be a number from 0 up, not -1"),
        ({"latency_ms": True}, "latency_ms has to be a number"),
        ({"down": "yes"}, "down has to be true or false, not 'yes'"),
        ({"suppress": "a@b"}, "suppress has to be a list of addresses"),
        ({"senders": ["nobody"]}, "senders has to be a list of addresses"),
        ({"limits": {"size": 1.5}}, "limits.size has to be a whole number"),
        ({"limits": {"per_hour": 1}}, "limits has to be an object with any of per_minute, per_day, size, "),
        (
            {"reply": {"stage": "ehlo", "text": "421 x"}},
            "reply.stage has to be one of connect, auth, mail, rcpt, data",
        ),
        ({"reply": {"stage": "eom", "text": "later"}}, "reply.text has to be a reply such as"),
        ({"reply": {"stage": "eom"}}, "reply has to be"),
        ([], "a JSON object is needed"),
        (7, "a JSON object is needed"),
    ],
)
def test_a_mistake_is_explained_and_nothing_is_changed(play, body, words):
    async def scene(around: Around):
        _, before = await ask(around)
        if isinstance(body, dict):
            body["sender_propagation_s"] = 99
        status, answer = await ask(around, body)
        assert status == 400
        assert answer["error"].startswith(words)
        assert (await ask(around))[1]["sender_propagation_s"] == before["sender_propagation_s"] == 0

    play(scene)


def test_what_is_no_json_or_no_known_method_is_refused(play):
    async def scene(around: Around):
        assert (await ask(around, raw=b"{not json"))[0] == 400
        assert (await ask(around, method="DELETE"))[0] == 405
        listen = around.internet.switchboard.listen
        for octets in (
            b"\0\xff\r\n\r\n",
            b"GET /\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            b"x" * 50_000,
        ):
            reader, writer = await asyncio.open_connection(listen.host, listen.port)
            writer.write(octets)
            assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
            writer.close()
        assert (await ask(around))[0] == 200

    play(scene)


@pytest.mark.parametrize("stage", ["connect", "auth", "mail", "rcpt", "data", "eom"])
def test_an_injected_reply_comes_as_often_as_asked_at_its_stage(play, stage):
    async def scene(around: Around):
        text = "451 Error in Processing"
        await ask(around, {"reply": {"stage": stage, "text": text, "count": 2}})
        for _ in range(2):
            answer = await greeting(around)
            if stage != "connect":
                assert answer.code == 220
                client = await around.submission()
                answer = await around.login(client)
                if stage != "auth":
                    assert answer.code == 235
                    [(_, answer)] = await client.send("alice@hoge.example", ["carol@mailbox.example"], LETTER)
            assert f"{answer.code} {answer.text}" == text
        assert (await ask(around))[1]["reply"] is None
        assert (await around.submit())[0][1].code == 250
        await until(lambda: around.relay.seen.relayed)
        assert around.relay.seen.messages == 1, "what was answered 451 must not be delivered"

    play(scene)


def test_an_injected_421_hangs_up(play):
    async def scene(around: Around):
        await ask(
            around,
            {
                "reply": {
                    "stage": "mail",
                    "text": "421 4.3.0 Mail system failure, closing transmission channel",
                }
            },
        )
        client = await around.authenticated()
        assert (await client.say("MAIL FROM:<alice@hoge.example>")).code == 421
        assert await client._reader.read() == b""

    play(scene)


def test_latency_delays_each_reply(play):
    async def scene(around: Around):
        await ask(around, {"latency_ms": 50})
        client = await around.authenticated()
        started = time.monotonic()
        for _ in range(4):
            await client.say("NOOP")
        assert time.monotonic() - started >= 0.2

    play(scene)


def test_down_refuses_connections_and_resets_open_ones_until_it_is_up_again(play):
    async def scene(around: Around):
        client = await around.submission()
        await ask(around, {"down": True})
        await ask(around, {"down": True})
        with pytest.raises(ConnectionRefusedError):
            await greeting(around)
        with pytest.raises(Exception):  # noqa: B017 - reset or closed, depending on what was under way
            for _ in range(3):
                await client.say("NOOP")
        await ask(around, {"down": False})
        assert (await greeting(around)).code == 220
        assert (await around.submit())[0][1].code == 250

    play(scene)


def test_suppressions_senders_and_limits_are_set(play):
    async def scene(around: Around):
        await ask(
            around,
            {"suppress": ["A@mailbox.example"], "senders": ["alice@hoge.example"], "limits": {"size": 900}},
        )
        _, shown = await ask(around)
        assert shown["suppress"] == ["a@mailbox.example"]
        assert shown["suppressions"][0]["reason"] == "MANUAL"
        client = await around.authenticated()
        assert (await client.say("MAIL FROM:<bob@hoge.example>")).code == 535
        assert (await client.say("MAIL FROM:<alice@hoge.example> SIZE=901")).code == 552
        assert (await client.say("MAIL FROM:<alice@hoge.example>")).code == 250
        assert (await client.say("RCPT TO:<a@mailbox.example>")).code == 254
        await ask(around, {"suppress": []})
        assert (await client.say("RCPT TO:<a@mailbox.example>")).code == 250

    play(scene)


def test_propagation_holds_back_senders_approved_from_now_on(play):
    async def scene(around: Around):
        now = [0.0]
        around.relay.state.clock = lambda: now[0]
        await ask(around, {"sender_propagation_s": 30})
        await ask(around, {"senders": ["@hoge.example", "new@fresh.example"]})
        state = around.relay.state
        assert state.is_approved("alice@hoge.example")
        assert not state.is_approved("new@fresh.example")
        now[0] += 30
        assert state.is_approved("new@fresh.example")

    play(scene)


def test_reset_goes_back_to_the_start(play):
    async def scene(around: Around):
        await ask(around, {
            "latency_ms": 1, "reply": {"stage": "eom", "text": "451 x"}, "suppress": ["a@b.example"],
            "senders": [], "limits": {"per_day": 0, "auth_failures": 1}, "sender_propagation_s": 9,
            "down": True,
        })  # fmt: skip
        around.relay.state.failed("127.0.0.1")
        await ask(around, {"reset": True})
        _, shown = await ask(around)
        assert shown["seen"]["connections"] == 0
        assert (shown["suppress"], shown["reply"], shown["latency_ms"], shown["down"]) == ([], None, 0, False)
        assert (await around.submit())[0][1].code == 250

    play(scene)


def test_too_many_connections_from_one_address_are_told_so(play):
    async def scene(around: Around):
        await ask(around, {"limits": {"connections": 2}})
        clients = [await around.submission(tls=False) for _ in range(2)]
        assert (await greeting(around)).text == "Too many connections, try again later"
        await clients[0].quit()
        await until(lambda: sum(around.relay.seen.open_connections.values()) < 2)
        assert (await greeting(around)).code == 220

    play(scene)
