"""Postfix as the gate's peer: every change, refusal and failure, as a client and a recipient see it.

In a rehearsal's world, of this machine or of another Debian, it starts a Postfix of its own beside the world's:

    script/rehearse -- python tests/unit/gate/interop/postfix_peer.py [--quick] [-v]

--quick leaves out what kills workers under load, which the world's own tests show as well.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import smtplib
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).parent
APART = "TODOKU_TEST_APART"
SOCKET = pathlib.Path("/var/spool/postfix/todoku/gate")
# Not below /tmp, where this checkout may be.
OURS = pathlib.Path("/run/postfix-peer")
DUMPS = OURS / "dumps"
GATE_LOG = OURS / "gate.log"
MAIN = """
compatibility_level = 3.6
maillog_file = /var/log/mail.log
myhostname = fresh.test
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtpd_peername_lookup = no
smtpd_recipient_restrictions = permit_mynetworks, reject
mynetworks = 127.0.0.0/8
default_transport = smtp:[127.0.0.1]:2525
alias_maps =
alias_database =
queue_directory = /var/spool/postfix
smtpd_milters = unix:todoku/gate
non_smtpd_milters = unix:todoku/gate
milter_default_action = tempfail
message_size_limit = 50000000
smtpd_client_connection_count_limit = 0
smtpd_error_sleep_time = 0
"""


def apart() -> None:
    """Into a network and a view of the file system of its own, in which no Postfix runs."""
    if APART in os.environ:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        kept = OURS / "postfix"
        OURS.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", OURS], check=True)
        shutil.copytree("/etc/postfix", kept, symlinks=True)
        for folder in ("/etc/postfix", "/var/spool/postfix", "/var/lib/postfix", "/var/log"):
            subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder], check=True)
        shutil.copytree(kept, "/etc/postfix", symlinks=True, dirs_exist_ok=True)
        shutil.copy("/usr/share/postfix/master.cf.dist", "/etc/postfix/master.cf")
        shutil.chown("/var/lib/postfix", "postfix", "postfix")
        return
    os.environ[APART] = "yes"
    again = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", sys.executable, *sys.argv]
    sys.exit(subprocess.run(again, check=False).returncode)


def start() -> None:
    pathlib.Path("/etc/postfix/main.cf").write_text(MAIN)
    with pathlib.Path("/etc/postfix/master.cf").open("a") as master:
        master.write("postlog unix-dgram n - n - 1 postlogd\n")
    subprocess.run(["postfix", "set-permissions"], capture_output=True)
    SOCKET.parent.mkdir(parents=True)
    DUMPS.mkdir()
    DUMPS.chmod(0o777)
    subprocess.Popen(["smtp-sink", "-u", "postfix", "-R", str(DUMPS), "-d", "%M", "127.0.0.1:2525", "100"])
    subprocess.run(["postfix", "start"], check=True, capture_output=True)


def gate(workers: int = 2) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, str(HERE / "gate_for_tests.py"), str(SOCKET), "postfix", str(workers)],
        stderr=os.open(GATE_LOG, os.O_CREAT | os.O_APPEND | os.O_WRONLY),
    )
    wait(lambda: SOCKET.exists())
    return process


def wait(condition, seconds: float = 15):
    until = time.monotonic() + seconds
    while not (seen := condition()):
        if time.monotonic() > until:
            said = [
                path.read_text()[-3000:]
                for path in (GATE_LOG, pathlib.Path("/var/log/mail.log"))
                if path.exists()
            ]
            raise SystemExit("\n".join([f"FAILED: waited {seconds} s", *said]))
        time.sleep(0.05)
    return seen


def message(do: str = "", body: str = "Hello.\r\n") -> str:
    marker = f"m{time.monotonic_ns()}"
    return (
        f"From: <a@hoge.test>\r\nSubject: {marker}\r\nX-Twice: one\r\nX-Twice: two\r\nX-Marker: {marker}\r\n"
        f"X-Do: {do}\r\n\r\n{body}"
    )


def arrived(sent: str) -> str:
    marker = sent.partition("X-Marker: ")[2].partition("\r\n")[0]

    def look() -> str:
        for path in DUMPS.iterdir():
            text = path.read_text(errors="replace")
            if f"X-Marker: {marker}" in text and text.endswith("\n"):
                return text
        return ""

    return wait(look)


def reply(call, *arguments) -> tuple[int, str]:
    try:
        done = call(*arguments)
    except smtplib.SMTPResponseException as error:
        done = (error.smtp_code, error.smtp_error)
    return done[0], done[1].decode()


def client(name: str = "client.test", **keywords) -> smtplib.SMTP:
    smtp = smtplib.SMTP("127.0.0.1", 25, timeout=30, **keywords)
    smtp.ehlo(name)
    return smtp


def send(smtp: smtplib.SMTP, sent: str, sender: str = "a@hoge.test", to=("b@local.test",)) -> tuple[int, str]:
    """The first reply that is no success, or that at the end of the message."""
    for seen in (reply(smtp.mail, sender), *(reply(smtp.rcpt, one) for one in to)):
        if seen[0] >= 400:
            smtp.rset()
            return seen
    return reply(smtp.data, sent)


def expect(name: str, seen: object, good: bool) -> None:
    print(
        ("ok    " if good else "FAILED") + f" {name}" + ("" if good else f"\n       saw: {seen!r}"),
        flush=True,
    )
    if not good:
        expect.failures += 1  # type: ignore[attr-defined]


expect.failures = 0  # type: ignore[attr-defined]


def changes() -> None:
    smtp = client()
    for do, wanted, unwanted in (
        ("add", ["X-Added: below", "X-Gate: seen"], []),
        ("insert", ["X-Inserted: very top\nX-Inserted: top\nReceived:"], []),
        ("change", ["Subject: changed", "X-Twice: one\nX-Twice: second changed"], []),
        ("delete", [], ["X-Twice"]),
        ("delete-first", ["X-Twice: two"], ["X-Twice: one"]),
        ("slow", ["X-Slow: yes", "X-Gate: seen"], []),
        ("null-sender", ["X-Mail-Args: <>"], []),
        ("large-body", ["line\n" * 50_000], ["Hello."]),
    ):
        sent = message(do)
        code, words = send(smtp, sent)
        text = arrived(sent) if code == 250 else words
        good = code == 250 and all(w in text for w in wanted) and not any(u in text for u in unwanted)
        expect(f"change: {do}", (code, words, text[:1500]), good)
    sent = message("everything")
    send(smtp, sent, to=("b@local.test", "extra@local.test"))
    text = arrived(sent)
    wanted = [
        "X-Mail-Args: <changed@sender.test>",
        "Received: from the gate\nReceived: from",
        "X-Twice: was second\n",
    ]
    wanted += [
        "X-Folded: one\n two",
        "All new.",
        "X-Rcpt-Args: <b@local.test>",
        "X-Rcpt-Args: <added@local.test>",
    ]
    good = all(w in text for w in wanted) and "X-Twice: one" not in text and "<extra@local.test>" not in text
    expect("change: everything at once", text, good)
    sent = message("count", "x" * 70 + "\r\n" + "y" * 3_000_000)
    sent = message("count", ("x" * 70 + "\r\n") * 50_000)
    send(smtp, sent)
    text = arrived(sent)
    expect(
        "a body of 3.6 MB is counted, the queue id known",
        text[:900],
        "X-Count: 3600000 " in text and "None None" not in text,
    )
    smtp.quit()


def refusals() -> None:
    smtp = smtplib.SMTP(timeout=30, source_address=("127.0.0.9", 0))
    try:
        code, words = smtp.connect("127.0.0.1", 25)
        code, words = smtp.ehlo("x.test") if code == 220 else (code, words)
        if code == 250:
            code, words = smtp.mail("a@hoge.test")
    except smtplib.SMTPException as error:
        code, words = error.args
    expect("refused at connect (Postfix has its own words there)", (code, words), code == 554)
    smtp = client("refuse.helo")
    seen = (
        reply(smtp.mail, "a@hoge.test") if smtp.ehlo_resp and smtp.does_esmtp else (smtp.ehlo("refuse.helo"))
    )
    expect("refused at HELO", seen, seen[0] == 550)
    smtp = client()
    seen = reply(smtp.mail, "refuse@hoge.test")
    expect("refused at MAIL, words intact", seen, seen == (550, "5.7.1 not 100 % right: \\xf1, and so on"))
    expect("held back at MAIL", seen := reply(smtp.mail, "hold@hoge.test"), seen == (451, "4.7.1 later"))
    seen = reply(smtp.mail, "raise@hoge.test")
    expect(
        "a rule's fault at MAIL is 451 4.3.0",
        seen,
        seen[0] == 451 and seen[1].startswith("4.3.0 The mail filter"),
    )
    smtp.mail("a@hoge.test")
    expect(
        "refused at RCPT",
        seen := reply(smtp.rcpt, "refuse@local.test"),
        seen == (550, "5.1.1 no such person"),
    )
    expect(
        "held back at RCPT", seen := reply(smtp.rcpt, "hold@local.test"), seen == (450, "4.2.1 person busy")
    )
    smtp.rcpt("b@local.test")
    sent = message("add")
    seen = reply(smtp.data, sent)
    text = arrived(sent)
    expect("the accepted recipient gets it", text, "<b@local.test>" in text and "refuse@" not in text)
    for do, code, words in (
        ("refuse-headers", 550, "5.6.0 bad headers"),
        ("refuse-body", 552, "5.3.4 body of 8 bytes"),
        ("hold", 452, "4.3.1 not now"),
        ("raise", 451, "4.3.0 The mail filter"),
    ):
        seen = send(smtp, message(do))
        expect(f"{do} at end of message", seen, seen[0] == code and seen[1].startswith(words))
    log = GATE_LOG.read_text()
    expect(
        "the fault is in the log with its traceback", log[-2000:], "RuntimeError: a rule with a fault" in log
    )
    smtp.quit()


def connections() -> None:
    smtp = client()
    codes = [send(smtp, message("add"))[0] for _ in range(200)]
    expect("200 messages over one connection", codes, set(codes) == {250})
    smtp.mail("a@hoge.test")
    smtp.rcpt("b@local.test")
    smtp.rset()
    sent = message("add")
    expect("RSET and on", seen := send(smtp, sent), seen[0] == 250 and arrived(sent) is not None)
    smtp.mail("a@hoge.test")
    smtp.close()  # the client is gone in the middle
    subprocess.run(
        ["sendmail", "-f", "a@hoge.test", "c@local.test"], input=message("add").encode(), check=True
    )


def gone(process: subprocess.Popen[bytes]) -> None:
    seen = send(client(), message("die"))
    expect("a worker that dies with the message: 4xx", seen, seen[0] == 451)
    wait(lambda: b"another starts" in GATE_LOG.read_bytes())
    accepted: list[str] = []
    refused: list[int] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            try:
                smtp = client()
                for _ in range(5):
                    sent = message("add")
                    code, _ = send(smtp, sent)
                    accepted.append(sent) if code == 250 else refused.append(code)
                smtp.quit()
            except smtplib.SMTPException as error:
                refused.append(getattr(error, "smtp_code", 0))

    threads = [threading.Thread(target=load) for _ in range(6)]
    for thread in threads:
        thread.start()
    killed = 0
    for _ in range(8):
        time.sleep(0.7)
        children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        if children:
            os.kill(int(children[0]), signal.SIGKILL)
            killed += 1
    time.sleep(1)
    stop.set()
    for thread in threads:
        thread.join()
    wait(
        lambda: (
            len(list(DUMPS.iterdir()))
            and subprocess.run(["mailq"], capture_output=True, text=True).stdout.startswith(
                "Mail queue is empty"
            )
        ),
        60,
    )
    time.sleep(0.5)
    texts = [path.read_text(errors="replace") for path in DUMPS.iterdir()]
    seen_markers: dict[str, int] = {}
    untouched = 0
    for text in texts:
        marker = text.partition("X-Marker: ")[2].partition("\n")[0]
        seen_markers[marker] = seen_markers.get(marker, 0) + 1
        untouched += "X-Gate: seen" not in text and "X-Do: count" not in text
    wanted = [sent.partition("X-Marker: ")[2].partition("\r\n")[0] for sent in accepted]
    lost = [marker for marker in wanted if seen_markers.get(marker, 0) == 0]
    twice = [marker for marker in wanted if seen_markers.get(marker, 0) > 1]
    name = f"kill -9 of {killed} workers under load: {len(accepted)} accepted, {len(refused)} refused {set(refused)}"
    expect(
        name + ", 0 lost, 0 doubled",
        (len(lost), len(twice)),
        not lost and not twice and set(refused) <= {451, 421, 0},
    )
    expect("no message passed the gate unseen", untouched, untouched == 0)


def stopping(process: subprocess.Popen[bytes]) -> None:
    smtp = client()
    smtp.mail("a@hoge.test")
    smtp.rcpt("b@local.test")
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    sent = message("slow")
    expect("HUP in the middle of a message", seen := reply(smtp.data, sent), seen[0] == 250)
    smtp.mail("a@hoge.test")
    smtp.rcpt("b@local.test")
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    sent = message("slow")
    expect("TERM in the middle of a message: it is finished", seen := reply(smtp.data, sent), seen[0] == 250)
    expect("and the gate ends with 0", seen := process.wait(10), seen == 0)
    expect("its socket is gone", SOCKET, not SOCKET.exists())
    try:
        seen = send(client(), message("add"))
    except smtplib.SMTPException as error:
        seen = (error.smtp_code, error.smtp_error)
    expect("without a gate: 4xx", seen, 400 <= seen[0] < 500)


def older_versions() -> None:
    """What a Postfix does that is told to speak an older version; version 6 has been shown by everything else."""
    for version in ("2", "3", "4"):
        subprocess.run(["postconf", "-e", f"milter_protocol = {version}"], check=True)
        subprocess.run(["postfix", "reload"], check=True, capture_output=True)
        time.sleep(1)
        smtp = client()
        sent = message("change")
        seen = send(smtp, sent)
        text = arrived(sent) if seen[0] == 250 else ""
        expect(f"version {version}: headers are changed", (seen, text), "second changed" in text)
        seen = send(smtp, message("null-sender"))
        expect(f"version {version}: Postfix permits every change all the same", seen, seen[0] == 250)
        seen = send(smtp, message("refuse-headers"))
        expect(f"version {version}: refused", seen, seen[0] == 550)
        smtp.quit()
    subprocess.run(["postconf", "-e", "milter_protocol = 6"], check=True)
    subprocess.run(["postfix", "reload"], check=True, capture_output=True)
    time.sleep(1)


if __name__ == "__main__":
    apart()
    start()
    print(
        "Postfix",
        subprocess.run(["postconf", "-h", "mail_version"], capture_output=True, text=True).stdout.strip(),
    )
    running = gate()
    changes()
    refusals()
    connections()
    older_versions()
    if "--quick" not in sys.argv:
        gone(running)
    stopping(running)
    if expect.failures and "-v" in sys.argv:  # type: ignore[attr-defined]
        print(
            GATE_LOG.read_text()[-5000:],
            pathlib.Path("/var/log/mail.log").read_text()[-3000:],
        )
    sys.exit(1 if expect.failures else 0)  # type: ignore[attr-defined]
