# Where mail ends up is finite and deliverable, whatever the store and the settings hold.

from directory_place import SettingsFor

from todoku.directory.people import Account, Alias, Held
from todoku.directory.resolution import Resolution

ALICE = Account("alice@hoge.example", "alice@hoge.example", ("a.smith@hoge.example",))
BOB = Account("bob@xn--wgv71a.example", "bob@xn--wgv71a.example")


def people(settings, *accounts: Account, **aliases: tuple[str, ...]) -> Resolution:
    listed = tuple(Alias(f"{name}@hoge.example", targets) for name, targets in aliases.items())
    return Resolution(settings, Held(accounts, listed))


def test_aliases_of_aliases_end_in_mailboxes_and_addresses_elsewhere_each_once(settings) -> None:
    here = people(
        settings,
        ALICE,
        BOB,
        staff=("team@hoge.example", "alice@hoge.example", "carol@mailbox.example"),
        team=("a.smith@hoge.example", "bob@xn--wgv71a.example"),
    )
    assert here.recipients("staff@hoge.example") == (
        "alice@hoge.example",
        "bob@xn--wgv71a.example",
        "carol@mailbox.example",
    )
    assert here.members("staff@hoge.example") == (ALICE, BOB)


def test_postmaster_and_abuse_of_every_domain_go_to_the_postmaster_of_the_settings(settings) -> None:
    here = people(settings, ALICE)
    for domain in ("hoge.example", "xn--wgv71a.example"):
        for role in ("postmaster", "abuse"):
            assert here.recipients(f"{role}@{domain}") == ("alice@hoge.example",)
    assert here.remarks() == ()


def test_an_alias_that_was_made_for_abuse_replaces_the_implicit_one(settings) -> None:
    here = people(settings, ALICE, BOB, abuse=("bob@xn--wgv71a.example",))
    assert here.recipients("abuse@hoge.example") == ("bob@xn--wgv71a.example",)


def test_a_postmaster_without_account_is_remarked(settings) -> None:
    here = people(settings, BOB)
    assert here.recipients("postmaster@hoge.example") == ()
    assert "todoku account add alice@hoge.example" in here.remarks()[0]


def test_a_postmaster_setting_that_is_a_role_address_itself_is_no_loop(settings_for: SettingsFor) -> None:
    here = people(settings_for(postmaster="postmaster@hoge.example"), ALICE)
    assert here.recipients("abuse@hoge.example") == ()
    assert "postmaster@hoge.example" not in here.implicit


def test_a_loop_is_found_with_the_whole_way(settings) -> None:
    here = people(settings, ALICE, b=("c@hoge.example",), c=("d@hoge.example", "alice@hoge.example"))
    assert here.loop("d@hoge.example", ["alice@hoge.example", "b@hoge.example"]) == (
        "d@hoge.example",
        "b@hoge.example",
        "c@hoge.example",
        "d@hoge.example",
    )
    assert here.loop("d@hoge.example", ["d@hoge.example"]) == ("d@hoge.example", "d@hoge.example")
    assert here.loop("e@hoge.example", ["b@hoge.example"]) == ()


def test_a_loop_that_only_the_settings_make_still_ends(settings_for: SettingsFor) -> None:
    here = people(
        settings_for(postmaster="info@hoge.example"),
        ALICE,
        info=("abuse@hoge.example", "alice@hoge.example"),
    )
    assert here.recipients("abuse@hoge.example") == ("alice@hoge.example",)
    assert here.recipients("info@hoge.example") == ("alice@hoge.example",)


def test_mail_for_a_removed_domain_is_not_sent_out_to_the_world(settings_for: SettingsFor) -> None:
    here = people(
        settings_for("hoge.example"), ALICE, BOB, team=("bob@xn--wgv71a.example", "alice@hoge.example")
    )
    assert here.accounts == (ALICE,)
    assert "no longer in the settings" in here.problem(BOB)
    assert here.recipients("team@hoge.example") == ("alice@hoge.example",)


def test_an_address_of_ours_that_nobody_has_leads_nowhere(settings) -> None:
    here = people(settings, ALICE, team=("gone@hoge.example", "carol@mailbox.example"))
    assert here.dead_ends(("gone@hoge.example", "carol@mailbox.example")) == ("gone@hoge.example",)
    assert here.recipients("team@hoge.example") == ("carol@mailbox.example",)


def test_accounts_of_the_other_mode_are_kept_but_not_in_use(settings_for: SettingsFor) -> None:
    taro = Account("taro", "taro@hoge.example")
    assert "accounts.mode" in people(settings_for(), ALICE, taro).problem(taro)
    assert "accounts.mode" in people(settings_for(mode="system"), ALICE, taro).problem(ALICE)
    assert people(settings_for(mode="system"), ALICE, taro).accounts == (taro,)


def test_a_thousand_aliases_in_a_row_are_followed_to_the_end(settings) -> None:
    chain = {f"n{number}": (f"n{number + 1}@hoge.example",) for number in range(1000)}
    here = people(settings, ALICE, **chain, n1000=("alice@hoge.example",))
    assert here.recipients("n0@hoge.example") == ("alice@hoge.example",)
