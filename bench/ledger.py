"""How fast a mail log is read, beside pflogsumm (Debian's package, found on the PATH or named by --pflogsumm), and what
the ledger's writes cost at 300 messages a second.

    python bench/ledger.py [--lines 1000000]
"""

from __future__ import annotations

import argparse
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from todoku.delivery.follow import Folder, Follower
from todoku.delivery.maillog import MailLog
from todoku.delivery.record import Recorder
from todoku.store import ledger

RELAY = "smtp.email.ap-tokyo-1.oci.oraclecloud.com[192.0.2.20]:587"


def messages(seed: int = 1) -> Iterator[list[str]]:
    """The lines of one message after another: submitted, relayed, one in twenty at the second try."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    moment, number = datetime(2026, 11, 20), 0
    while True:
        moment += timedelta(milliseconds=300)
        number += 1
        head = f"{moment:%b} {moment.day:2d} {moment:%H:%M:%S} mx postfix"
        queue_id, who = f"4jYbB{number:08x}", f"p{chance.randrange(100)}@hoge.example"
        to = f"user{chance.randrange(5000)}@mailbox{chance.randrange(200)}.example"
        client = f"pc{number % 90}.office.example[192.168.77.{number % 250}]"
        smtpd = f"{head}/submission/smtpd[{1000 + number % 50}]:"
        smtp = f"{head}/smtp[{3000 + number % 10}]: {queue_id}:"
        tried = f"{smtp} to=<{to}>, relay={RELAY}, delay=0.4, delays=0/0.2/0.2/0"
        lines = [
            f"{smtpd} connect from {client}",
            f"{smtpd} {queue_id}: client={client}, sasl_method=PLAIN, sasl_username={who}",
            f"{head}/cleanup[{2000 + number % 20}]: {queue_id}: message-id=<m{number}.{number * 7}@hoge.example>",
            f"{head}/qmgr[329]: {queue_id}: from=<{who}>, size={chance.randrange(900, 90_000)}, nrcpt=1 (queue active)",
            f"{smtpd} disconnect from {client} ehlo=2 starttls=1 auth=1 mail=1 rcpt=1 data=1 quit=1 commands=8",
        ]
        if number % 20 == 0:
            said = "455 Maximum messages sent per minute reached : limit is 10 (in reply to RCPT TO command)"
            lines.append(f"{tried}, dsn=4.3.0, status=deferred (host {RELAY[:-4]} said: {said})")
        lines += [f"{tried}, dsn=2.0.0, status=sent (250 Ok)", f"{head}/qmgr[329]: {queue_id}: removed"]
        yield lines


def _cpu() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def read_log(log: Path) -> tuple[float, int, int]:
    """CPU seconds, entries, and how much the memory's peak grew (KiB)."""
    follower, parser = Follower(Folder(log)), MailLog()
    entries = 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = _cpu()
    while block := follower.read():
        entries += len(parser.entries(block))
    return _cpu() - began, entries, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before


def write_ledger(folder: Path, seconds: int, per_second: int = 300) -> float:
    """The share of one core that `per_second` messages a second take, log and ledger together."""
    place = ledger.Place(str(folder / "ledger.sqlite3"))
    ledger.migrate(place)
    recorder, parser, source = Recorder(ledger.open(place)), MailLog(), messages()
    blocks = [
        "".join(f"{line}\n" for _ in range(per_second // 2) for line in next(source)).encode()
        for _ in range(2 * seconds)
    ]
    began = _cpu()
    for number, block in enumerate(blocks):  # two commits a second, as the agent does
        recorder.record(parser.entries(block), {"log": str(number)})
    return (_cpu() - began) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--pflogsumm", default=shutil.which("pflogsumm") or "")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        log, count = Path(name) / "mail.log", 0
        with log.open("w") as file:
            for lines in messages():
                file.write("\n".join(lines) + "\n")
                count += len(lines)
                if count >= options.lines:
                    break
        times = [read_log(log) for _ in range(3)]
        ours, entries, _ = min(times)
        print(
            f"log reader   {count:,} lines, {entries:,} entries: {ours:.2f} s CPU, {count / ours:,.0f} lines/s"
        )
        print(f"             memory grew by {max(each[2] for each in times) / 1024:.1f} MiB")
        if options.pflogsumm:
            theirs = []
            for _ in range(3):
                began = _cpu()
                subprocess.run([*options.pflogsumm.split(), log], check=True, stdout=subprocess.DEVNULL)
                theirs.append(_cpu() - began)
            best = min(theirs)
            print(
                f"pflogsumm    {best:.2f} s CPU, {count / best:,.0f} lines/s: we are {best / ours:.1f} times as fast"
            )
        else:
            print("pflogsumm    is not here: apt-get install pflogsumm", file=sys.stderr)
        print(f"ledger       {write_ledger(Path(name), 20):.1%} of one core for 300 messages a second")


if __name__ == "__main__":
    main()
