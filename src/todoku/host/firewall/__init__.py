"""The machine's own firewall: what mail needs is let in, before whatever ends the input chain.

Oracle's images of Ubuntu load a chain that lets SSH in and rejects everything else, from /etc/iptables/rules.v4
(netfilter-persistent): a rule that is appended to it does nothing, and one that is not in the file is gone after a
reboot. Nothing here flushes a chain, as that would take the rules along with which those images protect the boot volume
and the metadata service; and nothing here calls ufw, which Oracle names as a known issue.
"""

from todoku.host.firewall.resources import resources

__all__ = ["resources"]
