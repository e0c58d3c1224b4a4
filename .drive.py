import sys, time, logging
from dataclasses import dataclass
from todoku.settings import parse
from todoku.host import desired
from todoku.host.client import Host
from todoku.host.resource import HostResource
from todoku.plan.resource import *
from todoku.plan.plan import make
from todoku.plan.stages import make_stages, apply_stages
from todoku.plan.journal import Journal
@dataclass(frozen=True, kw_only=True)
class Stub(HostResource):
    @property
    def id(self): return "directory:export"
    def look(self, c): return c.stat("/var/lib/todoku/directory/sender_login.lmdb")
    def differ(self, seen): return None if seen else Change(Action.CREATE, "export")
    def change(self, ch, c):
        c.run(["groupadd","-f","vmail"])
        for n in ("virtual_mailbox","virtual_alias","sender_login"):
            c.replace(f"/var/lib/todoku/directory/{n}", b"alice@hoge.example alice@hoge.example\n")
            c.run(["postmap", f"lmdb:/var/lib/todoku/directory/{n}"])
        for n in ("dovecot.passwd","dovecot.userdb"): c.replace(f"/var/lib/todoku/directory/{n}", b"")
if "--real" not in sys.argv:
    desired._directory = lambda s: [Item(Stub(reason="stub", after=frozenset({"packages","folder:/var/lib/todoku/directory","configuration:postfix"})), Host())]
TOML='''hostname="mx.hoge.example"
addresses="203.0.113.10"
postmaster="alice@hoge.example"
[[domains]]
name="hoge.example"
[relay]
region="ap-tokyo-1"
'''
EXTRA=open("/tmp/extra.toml").read() if __import__("os").path.exists("/tmp/extra.toml") else ""
s=parse(TOML+EXTRA,'x.toml')
j=Journal(None)
st=desired.stages(s)
p=make_stages(st)
for step in p.steps:
    if step.change or step.problem:
        print("PLAN", step.id, "|", step.change.summary if step.change else "", "|", step.problem)
        if "-v" in sys.argv and step.change: print(step.change.detail)
if "apply" in sys.argv:
    t=time.time()
    o=apply_stages(st,p,lambda e: print(f"{time.time()-t:5.1f}", type(e).__name__, getattr(e,'id',''), getattr(e,'reason','') if type(e).__name__!='Unchanged' else '', flush=True) if type(e).__name__!='Unchanged' else None, journal=j)
    print("OK" if o.ok else "FAILED", f"{time.time()-t:.1f}s")
    for b in o.bugs:
        import traceback; traceback.print_exception(b)
    sys.exit(0 if o.ok else 1)
