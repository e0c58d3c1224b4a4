"""What a record set has to be, given what is published at its name already.

At one name and type there can be records of several owners: the TXT records of a domain are SPF and a search
engine's proof and more. Only the record that is ours to write is touched, and each kind of record has its own
rule for what happens to one that is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import StrEnum

from todoku.dns import dmarc, spf
from todoku.dns.problems import DmarcProblem, RecordProblem, SpfProblem
from todoku.dns.text import short


class Merge(StrEnum):
    """What becomes of a record that is there and says something else."""

    CONFLICT = "conflict"  # somebody decided it: replaced only when forced (MX, A, AAAA)
    OURS = "ours"  # the name exists only for us: replaced (DKIM, return path)
    SPF = "spf"  # the relay is added to it
    DMARC = "dmarc"  # merged, never weakened
    KEEP = "keep"  # one of the same kind is enough, whatever it says in particular


def settle(merge: Merge, type_: str, wanted: Sequence[str], there: Sequence[str]) -> tuple[str, ...]:
    """All values that the name and type shall have, given those that are `there`; in place of `there` if equal.

    Raises RecordProblem when what is there cannot be merged with.
    """
    if type_ == "TXT":
        result = _texts(merge, wanted[0], there)
    elif type_ == "MX" and _hosts(wanted) == _hosts(there):
        result = tuple(there)  # only the preference differs, which says nothing when there is one host
    else:
        result = tuple(wanted)
    return tuple(there) if sorted(result) == sorted(there) else result


def conflict(merge: Merge, wanted: Sequence[str], there: Sequence[str]) -> bool:
    """Whether somebody else's decision stands where ours should be."""
    return merge is Merge.CONFLICT and bool(there) and sorted(wanted) != sorted(there)


def _texts(merge: Merge, wanted: str, there: Sequence[str]) -> tuple[str, ...]:
    """The TXT values: those of other kinds as they are, and one of this kind."""
    same = _same_kind(wanted)
    others = tuple(text for text in there if not same(text))
    mine = [text for text in there if same(text)]
    match merge:
        case Merge.SPF:
            return (*others, _merged(spf.merge, mine, wanted, SpfProblem("SPF")))
        case Merge.DMARC:
            return (*others, _merged(dmarc.merge, mine, wanted, DmarcProblem("DMARC")))
        case Merge.KEEP:
            return (*others, *(mine or [wanted]))
        case _:
            return (*others, wanted)


def _merged(
    merge: Callable[[str | None, str], str], mine: list[str], wanted: str, problem: RecordProblem
) -> str:
    if len(mine) == 2:
        # An earlier run may have ended between publishing the merged record and removing the one before.
        for old, new in (mine, mine[::-1]):
            with suppress(RecordProblem):  # that there are two of them is worse, and told below
                if merge(old, wanted) == new:
                    return new
    if len(mine) > 1:
        quoted = " and ".join(f'"{short(text)}"' for text in mine[:3])
        raise type(problem)(
            f"there are {len(mine)} {problem} records at one name, {quoted}: receivers then ignore all of them. "
            "Write into one what is right, and remove the others"
        )
    return merge(mine[0] if mine else None, wanted)


def _same_kind(wanted: str) -> Callable[[str], bool]:
    if spf.is_spf(wanted):
        return spf.is_spf
    if dmarc.is_dmarc(wanted):
        return dmarc.is_dmarc
    version = wanted.partition(";")[0].strip()
    if version.lower().startswith("v="):  # "v=TLSRPTv1", "v=DKIM1"
        return lambda text: text.partition(";")[0].strip() == version
    return lambda text: text == wanted


def _hosts(values: Sequence[str]) -> list[str]:
    return sorted(value.split()[-1] for value in values)
