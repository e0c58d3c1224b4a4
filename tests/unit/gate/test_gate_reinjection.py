# A copy is handed to Postfix once: whole, for all recipients or none, and not again when the original comes again.

from __future__ import annotations

import hashlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from todoku.gate import passage
from todoku.gate.reinjection import Copy, Injector, NotTaken, answered, hand_over

COPY = Copy(b"key", "bounces@hoge.example", ("a@x.example", "b@x.example"), b"Subject: x\n\n.\ntext\n")


def note_of(copy: Copy) -> str:
    """The note that the copy names to the gate."""
    first = copy.content.split(b"\r\n")[0].decode()
    assert first.startswith(f"{passage.NOTE}: ")
    return first.partition(": ")[2]


def notes(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def without_note(copy: Copy) -> Copy:
    return replace(copy, content=copy.content.partition(b"\r\n")[2])


class Server:
    """An SMTP server for one connection; `replies` by command, else 250."""

    def __init__(self, replies: dict[str, str]) -> None:
        self.replies = {"DATA": "354 go on", "QUIT": "221 bye", **replies}
        self.said: list[bytes] = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self.socket.getsockname()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        connection, _ = self.socket.accept()
        with connection, connection.makefile("rwb") as file:
            self._say(file, "220 mx ESMTP")
            while line := file.readline():
                self.said.append(line)
                command = line.split()[0].decode().upper()
                self._say(
                    file,
                    self.replies.get(command, "250-mx\r\n250 8BITMIME" if command == "EHLO" else "250 ok"),
                )
                if command == "DATA" and self.replies["DATA"].startswith("354"):
                    while (text := file.readline()) not in (b".\r\n", b""):
                        self.said.append(text)
                    self._say(file, self.replies.get("END", "250 queued"))

    @staticmethod
    def _say(file: object, reply: str) -> None:
        file.write(reply.encode() + b"\r\n")  # type: ignore[attr-defined]
        file.flush()  # type: ignore[attr-defined]


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    made: list[Server] = []
    yield made
    for server in made:
        server.socket.close()


def serve(servers: list[Server], **replies: str) -> Server:
    servers.append(Server(replies))
    return servers[-1]


def test_it_is_handed_over_whole(servers: list[Server]) -> None:
    server = serve(servers)
    hand_over(COPY, server.address)
    assert b"mail FROM:<bounces@hoge.example>\r\n" in server.said
    assert [line for line in server.said if line.startswith(b"rcpt")] == [
        b"rcpt TO:<a@x.example>\r\n",
        b"rcpt TO:<b@x.example>\r\n",
    ]
    assert server.said[-5:-1] == [b"Subject: x\r\n", b"\r\n", b"..\r\n", b"text\r\n"]


def test_eight_bit_text_is_announced(servers: list[Server]) -> None:
    server = serve(servers)
    hand_over(Copy(b"k", "a@x.example", ("b@x.example",), "\n\nデイブ\n".encode()), server.address)
    assert any(b"BODY=8BITMIME" in line for line in server.said)


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA", "END"])
@pytest.mark.parametrize(("code", "for_good"), [(451, False), (550, True)])
def test_a_refusal_keeps_its_words(servers: list[Server], command: str, code: int, for_good: bool) -> None:
    server = serve(servers, **{command: f"{code} not this one"})
    with pytest.raises(NotTaken, match="not this one") as raised:
        hand_over(COPY, server.address)
    assert raised.value.for_good == for_good


def test_a_server_that_is_not_there_is_no_refusal() -> None:
    with pytest.raises(NotTaken) as raised:
        hand_over(COPY, ("127.0.0.1", 1))
    assert not raised.value.for_good


def test_what_was_taken_is_not_handed_over_again(tmp_path: Path) -> None:
    taken: list[Copy] = []
    for _ in range(2):  # another worker, or the gate started anew
        Injector(tmp_path / "forwarded", taken.append)(COPY)
    assert [without_note(copy) for copy in taken] == [COPY]


def test_what_was_not_taken_is_tried_again(tmp_path: Path) -> None:
    def refuse(_copy: Copy) -> None:
        raise NotTaken("not now")

    with pytest.raises(NotTaken):
        Injector(tmp_path, refuse)(COPY)
    taken: list[Copy] = []
    Injector(tmp_path, taken.append)(COPY)
    assert [without_note(copy) for copy in taken] == [COPY]


def test_notes_are_kept_for_as_long_as_mail_servers_try(tmp_path: Path) -> None:
    now = [1_000_000.0]
    taken: list[Copy] = []
    Injector(tmp_path, taken.append, lambda: now[0])(COPY)
    (note,) = notes(tmp_path)
    os.utime(note, (now[0], now[0]))
    now[0] += 4 * 86400
    Injector(tmp_path, taken.append, lambda: now[0])(COPY)
    assert len(taken) == 1
    now[0] += 2 * 86400
    Injector(tmp_path, taken.append, lambda: now[0])(COPY)
    assert len(taken) == 2


def test_a_copy_that_cannot_be_noted_is_not_handed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Copy] = []

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "touch", full)
    with pytest.raises(NotTaken, match="No space left"):
        Injector(tmp_path, taken.append)(COPY)
    assert taken == []


def test_a_copy_that_was_handed_over_is_taken_even_if_the_note_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Copy] = []

    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "rename", broken)
    Injector(tmp_path, taken.append)(
        COPY
    )  # an error would have the sender send it again, and carol get it twice
    assert [without_note(copy) for copy in taken] == [COPY]
    assert notes(tmp_path) == []


# --- killed while it is handed over ---


def killed_when(tmp_path: Path, *, told: bool) -> None:
    """Hands a copy over, and is killed before Postfix's answer is read: `told` after the gate has let it pass."""

    def hand_over_and_die(copy: Copy) -> None:
        if told:
            answered(note_of(copy), tmp_path)
        os.kill(os.getpid(), signal.SIGKILL)

    pid = os.fork()
    if pid == 0:
        Injector(tmp_path, hand_over_and_die)(COPY)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL


def test_killed_after_the_gate_let_the_copy_pass_it_is_not_handed_over_again(tmp_path: Path) -> None:
    killed_when(tmp_path, told=True)
    taken: list[Copy] = []
    Injector(tmp_path, taken.append, postfix_began=lambda: 0.0)(COPY)
    assert taken == []


def test_killed_before_the_gate_let_the_copy_pass_it_is_handed_over_again(tmp_path: Path) -> None:
    killed_when(tmp_path, told=False)
    taken: list[Copy] = []
    now = [time.time()]
    again = Injector(tmp_path, taken.append, lambda: now[0], postfix_began=lambda: 0.0)
    with pytest.raises(NotTaken, match="just being handed over"):  # Postfix may be about to ask the gate
        again(COPY)
    now[0] += 4
    again(COPY)
    assert [without_note(copy) for copy in taken] == [COPY]


@pytest.mark.parametrize("began", [3_000_000_000.0, float("inf")])
def test_a_copy_that_passed_before_postfix_was_stopped_is_handed_over_again(
    tmp_path: Path, began: float
) -> None:
    killed_when(tmp_path, told=True)
    taken: list[Copy] = []
    again = Injector(tmp_path, taken.append, postfix_began=lambda: began)
    again(COPY)
    assert [without_note(copy) for copy in taken] == [COPY]
    again(COPY)
    assert len(taken) == 1


def test_a_copy_that_passed_and_was_not_taken_all_the_same_is_handed_over_again(tmp_path: Path) -> None:
    def refuse(copy: Copy) -> None:
        answered(note_of(copy), tmp_path)
        raise NotTaken("451 4.3.0 Error: queue file write error")

    with pytest.raises(NotTaken):
        Injector(tmp_path, refuse)(COPY)
    taken: list[Copy] = []
    Injector(tmp_path, taken.append, postfix_began=lambda: 0.0)(COPY)
    assert len(taken) == 1


@pytest.mark.parametrize("late", [True, False])
def test_the_gates_answer_and_postfixs_may_be_noted_in_either_order(tmp_path: Path, late: bool) -> None:
    names: list[str] = []

    def hand_over(copy: Copy) -> None:
        names.append(note_of(copy))
        if not late:
            answered(names[0], tmp_path)

    Injector(tmp_path, hand_over)(COPY)
    if late:
        answered(names[0], tmp_path)
    (note,) = notes(tmp_path)
    assert note.name == hashlib.sha256(COPY.key).hexdigest()


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "a.1.2", "a" * 64 + ".1.2/../x", "x" * 5000])
def test_a_note_that_is_none_of_ours_is_nothing(tmp_path: Path, name: str) -> None:
    answered(name, tmp_path)
    assert notes(tmp_path) == []


def test_a_copy_that_somebody_is_handing_over_is_not_handed_over_beside_it(tmp_path: Path) -> None:
    def hand_over(_copy: Copy) -> None:
        with pytest.raises(NotTaken, match="just being handed over"):
            Injector(tmp_path, taken.append)(COPY)

    taken: list[Copy] = []
    Injector(tmp_path, hand_over)(COPY)
    Injector(tmp_path, taken.append)(COPY)
    assert taken == []


def test_what_a_killed_gate_left_is_swept_away_with_the_notes(tmp_path: Path) -> None:
    killed_when(tmp_path, told=False)
    (left,) = notes(tmp_path)
    os.utime(left, (1.0, 1.0))
    Injector(tmp_path, lambda _: None)(COPY)
    assert left not in notes(tmp_path)
