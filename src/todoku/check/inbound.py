"""Whether mail to us is taken (row 19): the addresses that everybody has to be able to write to are tried at our own
port 25, up to RCPT TO (RFC 5321 4.5.1: postmaster; RFC 2142: abuse), and those to which DMARC reports go.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from todoku.check.dialogue import Refused, Reply, greeted
from todoku.check.dmarc import report_addresses
from todoku.check.finding import Finding, failed, passed, warned
from todoku.check.means import Means, Unanswered
from todoku.check.ports import WORLD, Door, door
from todoku.check.runner import Step
from todoku.settings import Settings
from todoku.settings.models import Domain

_MOST_PEOPLE = 3  # of each domain


def steps(settings: Settings, means: Means) -> list[Step]:
    world = door(WORLD, settings, means)
    return [
        Step("inbound.accepted", domain.name, lambda d=domain: look(settings, d, world))  # type: ignore[misc]
        for domain in settings.domains
    ]


def look(settings: Settings, domain: Domain, world: Door) -> Iterator[Finding]:
    yield from taken(domain.name, _addresses(settings, domain, world.means), world)


def _addresses(settings: Settings, domain: Domain, means: Means) -> list[str]:
    """Those at our domains to which strangers and receivers write in the name of `domain`, and some of its people."""
    try:
        reports = report_addresses(domain.name, means.dns)
    except Unanswered:
        reports = []
    people = [address for address in means.addresses if address.endswith(f"@{domain.name}")]
    named = [f"postmaster@{domain.name}", f"abuse@{domain.name}", settings.postmaster, *reports]
    return list(dict.fromkeys([*filter(settings.is_own, named), *people[:_MOST_PEOPLE]]))


def taken(domain: str, addresses: Sequence[str], world: Door) -> Iterator[Finding]:
    """Whether a stranger may write to each of `addresses`."""
    try:
        answers = _answers(addresses, world)
    except Refused as problem:
        seen = f"{world.port} takes mail from nobody: {problem.reply}"
        yield failed("inbound.accepted", seen, _advice(problem.reply), domain)
        return
    wrong = {address: answer for address, answer in answers.items() if not answer.good}
    said = {str(answer).replace(f"<{address}>", "") for address, answer in wrong.items()}
    if len(wrong) == len(answers) and len(said) == 1:
        address, answer = next(iter(wrong.items()))
        seen = f"{world.port} takes no mail for {domain}; to {address} it says {answer}"
        yield failed("inbound.accepted", seen, _advice(answer), domain)
        return
    for address, answer in wrong.items():
        tell = warned if answer.code // 100 == 4 else failed
        yield tell("inbound.accepted", f"mail to {address} is answered by {answer}", _advice(answer), domain)
    if not wrong:
        seen = f"{world.port} takes mail to {', '.join(address.partition('@')[0] for address in answers)}"
        yield passed("inbound.accepted", seen, domain)


def _answers(addresses: Sequence[str], world: Door) -> dict[str, Reply]:
    """Each address with the answer to it. Raises OSError, Refused."""
    with world.open() as dialogue:
        greeted(dialogue, world.hostname)
        answer = dialogue.say("MAIL FROM:<>")
        if not answer.good:
            raise Refused(answer)
        found = {address: dialogue.say(f"RCPT TO:<{address}>") for address in addresses}
        dialogue.say("RSET")
        dialogue.say("QUIT")
        return found


def _advice(answer: Reply) -> str:
    if answer.code // 100 == 4:
        return (
            "Senders try again for some days. See `todoku status` and the mail log for what is amiss: a service, the "
            "resolver, the disk"
        )
    return "Run `todoku apply`, which makes postmaster@ and abuse@; make any other address with `todoku alias add`"
