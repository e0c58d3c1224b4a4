# Complaint: "In the rehearsal it works under supervisord; on my machine there is systemd, and I reboot." So a fresh
# Debian is booted in the rehearsal's world, in the place of our server, and the README is followed in it word for word,
# and with it "first-hour.md".

from __future__ import annotations

import subprocess

import booted_root
import pytest
from conftest import CHECKOUT, TODOKU

from todoku.host import packages
from todoku.settings import parse
from todoku.settings.example import example

# Some two minutes: a system is booted twice, and packages are installed in it (five minutes and a network for the
# first run, which makes the system).
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def readme_commands() -> list[str]:
    """The commands of the README's section on a real machine, without their comments."""
    section = (
        (CHECKOUT / "README.md").read_text().partition("\n## On a real machine\n")[2].partition("\n## ")[0]
    )
    blocks = [block.partition("```")[0] for block in section.split("```sh\n")[1:]]
    lines = [line.partition("  #")[0].rstrip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def _packages() -> tuple[str, ...]:
    """Also those of what is switched on later."""
    more = {"gate.malware": "clamav", "dns.publisher": "manual", "tls.mode": "acme"}
    return packages.wanted(parse(example(more), ""))


def test_who_follows_the_readme_on_a_booted_debian_has_mail_that_flows_also_after_a_reboot() -> None:
    commands = readme_commands()
    with booted_root.alone(booted_root.CACHE):
        root = booted_root.prepare(CHECKOUT, _packages(), commands[:2])
        done = subprocess.run(
            [TODOKU, "rehearse", "--", "env", f"BOOTED_ROOT={root}", "README=" + "\n".join(commands[2:]), "python",
             "-m", "pytest", "-q", "-s", "--tb=short", "-p", "no:cacheprovider", "tests/world/booted_systemd.py"],
            cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1000, check=False,
        )  # fmt: skip
    print(done.stdout)
    if done.returncode:
        pytest.fail("the words above say why", pytrace=False)
