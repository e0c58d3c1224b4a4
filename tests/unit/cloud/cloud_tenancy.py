"""A fake cloud together with the settings, the file and the relay of one host: plan and apply against them."""

from cloud_fake import Clock, FakeApi, FakeRelay, Keeper, cloud, settings

from todoku.cloud.desired import Around, resources
from todoku.plan.apply import apply
from todoku.plan.plan import make
from todoku.plan.resource import Item


class Tenancy:
    """A fake cloud, the file of this host, and runs of plan and apply against them."""

    def __init__(self, more=""):
        self.settings = settings(more)
        self.clock = Clock()
        self.api = FakeApi(self.clock)
        self.keeper = Keeper()
        self.relay = FakeRelay(self.api, self.keeper)

    def items(self, **around):
        client = cloud(self.api)
        wanted = resources(self.settings, self.keeper, self.relay, Around(**around))
        return client, [Item(resource, client) for resource in wanted]

    def plan(self, **around):
        return make(self.items(**around)[1])

    def apply(self, **around):
        outcome = apply(self.items(**around)[1], lambda _event: None)
        outcome.raise_bug()
        return outcome

    def hour_passes(self):
        self.clock.sleep(4000)

    def senders(self):
        return {each.address for each in self.api.all_senders}
