# What is exported is what Postfix and Dovecot need, in the form that both generations of Dovecot read.

from pathlib import Path

from directory_place import SettingsFor

from todoku.directory.contents import PASSWD, USERDB, Mailbox, contents
from todoku.directory.people import Account, Alias, Grant, Held
from todoku.directory.resolution import Resolution

ALICE = Account("alice@hoge.example", "alice@hoge.example", ("a.smith@hoge.example",), None, "$argon2id$A")
BOB = Account("bob@hoge.example", "bob@hoge.example", (), 0, "$argon2id$B")
OTHER_BOB = Account("bob@xn--wgv71a.example", "bob@xn--wgv71a.example", (), 7_000, "$argon2id$C")
ALIASES = (
    Alias("info@hoge.example", ("alice@hoge.example",)),
    Alias("team@hoge.example", ("alice@hoge.example", "bob@hoge.example", "carol@mailbox.example")),
    Alias("away@hoge.example", ("carol@mailbox.example",)),
    Alias("dead@hoge.example", ("gone@hoge.example",)),
)


def exported(settings, accounts=(ALICE, BOB, OTHER_BOB), aliases=ALIASES, grants=()):
    def mailbox(account: Account) -> Mailbox:
        local, _, domain = account.address.partition("@")
        return Mailbox(5000, 5001, Path("/mail") / domain / local)

    return contents(Resolution(settings, Held(tuple(accounts), tuple(aliases), tuple(grants))), mailbox)


def test_postfix_gets_mailboxes_aliases_and_who_may_send_as_whom(settings) -> None:
    maps = exported(settings).maps
    assert maps["virtual_mailbox"] == {
        "alice@hoge.example": "alice@hoge.example",
        "bob@hoge.example": "bob@hoge.example",
        "bob@xn--wgv71a.example": "bob@xn--wgv71a.example",
    }
    roles = [
        f"{role}@{domain}"
        for role in ("abuse", "bounces", "postmaster")
        for domain in ("hoge.example", "xn--wgv71a.example")
    ]
    assert maps["virtual_alias"] == {
        "a.smith@hoge.example": "alice@hoge.example",
        "info@hoge.example": "alice@hoge.example",
        "team@hoge.example": "alice@hoge.example,bob@hoge.example,carol@mailbox.example",
        "away@hoge.example": "carol@mailbox.example",
    } | dict.fromkeys(roles, "alice@hoge.example")
    assert maps["sender_login"] == {
        "alice@hoge.example": "alice@hoge.example",
        "a.smith@hoge.example": "alice@hoge.example",
        "bob@hoge.example": "bob@hoge.example",
        "bob@xn--wgv71a.example": "bob@xn--wgv71a.example",
        "info@hoge.example": "alice@hoge.example",
        "team@hoge.example": "alice@hoge.example,bob@hoge.example",
    } | dict.fromkeys(roles, "alice@hoge.example")


def test_an_alias_that_leads_nowhere_is_left_out_so_that_its_mail_is_refused(
    settings,
) -> None:
    assert "dead@hoge.example" not in exported(settings).maps["virtual_alias"]


def test_a_bare_user_name_logs_in_where_only_one_account_has_it(settings) -> None:
    lines = exported(settings).passwd.splitlines()[1:]
    assert lines == [
        "alice@hoge.example:{ARGON2ID}$argon2id$A::::::user=alice@hoge.example",
        "alice:{ARGON2ID}$argon2id$A::::::user=alice@hoge.example",
        "bob@hoge.example:{ARGON2ID}$argon2id$B::::::user=bob@hoge.example",
        "bob@xn--wgv71a.example:{ARGON2ID}$argon2id$C::::::user=bob@xn--wgv71a.example",
    ]


def test_quota_stands_at_every_address_of_a_mailbox_in_the_words_of_both_generations(settings) -> None:
    lines = dict(line.split(":", 1) for line in exported(settings).userdb.splitlines()[1:])
    own = (
        ":5000:5001::/mail/hoge.example/alice::userdb_user=alice@hoge.example "
        "userdb_quota_rule=*:bytes=2000000000 userdb_quota_storage_size=2000000000"
    )
    for address in ("alice", "a.smith", "info", "postmaster", "abuse"):
        assert lines[f"{address}@hoge.example"] == own
    assert lines["bob@hoge.example"].endswith("userdb_quota_rule=*:bytes=0 userdb_quota_storage_size=0")
    assert lines["bob@xn--wgv71a.example"].endswith("*:bytes=7000 userdb_quota_storage_size=7000")
    # Not one mailbox: nobody's quota decides.
    assert "team@hoge.example" not in lines
    assert "away@hoge.example" not in lines


def test_accounts_of_a_removed_domain_are_not_exported(settings_for: SettingsFor) -> None:
    texts = exported(settings_for("hoge.example")).texts()
    assert not [name for name, text in texts.items() if "xn--wgv71a" in text]
    assert "\nbob:{ARGON2ID}$argon2id$B" in texts[PASSWD]  # now unambiguous


def test_in_system_mode_addresses_stand_for_users_and_no_password_is_there(
    settings_for: SettingsFor,
) -> None:
    taro = Account("taro", "taro@hoge.example", ("yamada@hoge.example",))
    here = exported(settings_for(mode="system", postmaster="taro@hoge.example"), (taro, ALICE), ())
    assert here.maps["virtual_mailbox"] == {"taro@hoge.example": "taro"}
    assert here.maps["sender_login"]["yamada@hoge.example"] == "taro"
    assert here.passwd.splitlines()[1:] == [
        "taro@hoge.example:::::::user=taro noauthenticate",
        "yamada@hoge.example:::::::user=taro noauthenticate",
    ]
    names = [line.split(":")[0] for line in here.userdb.splitlines()[1:]]
    assert {"taro", "taro@hoge.example", "yamada@hoge.example", "abuse@hoge.example"} <= set(names)
    assert "argon2" not in "".join(here.texts().values())
    assert "userdb_user=taro " in here.texts()[USERDB]


def test_an_empty_directory_is_five_files_without_people(settings) -> None:
    for text in exported(settings, (), ()).texts().values():
        assert text.startswith("#")
        assert text.count("\n") == 1


def test_who_may_send_as_another_stands_beside_the_owner(settings) -> None:
    grants = [
        Grant("bob@hoge.example", "alice@hoge.example"),
        Grant("bob@hoge.example", "info@hoge.example"),
        Grant("bob@hoge.example", "team@hoge.example"),  # as a member, he may already
        Grant("bob@hoge.example", "away@hoge.example"),  # leads to nobody here
    ]
    senders = exported(settings, grants=grants).maps["sender_login"]
    assert senders["alice@hoge.example"] == "alice@hoge.example,bob@hoge.example"
    assert senders["info@hoge.example"] == "alice@hoge.example,bob@hoge.example"
    assert senders["team@hoge.example"] == "alice@hoge.example,bob@hoge.example"
    assert senders["away@hoge.example"] == "bob@hoge.example"
    assert senders["a.smith@hoge.example"] == "alice@hoge.example"


def test_who_may_send_as_any_of_a_domain_stands_in_each_of_its_lines_since_postfix_stops_at_the_first(
    settings,
) -> None:
    senders = exported(settings, grants=[Grant("bob@hoge.example", "@hoge.example")]).maps["sender_login"]
    assert senders["@hoge.example"] == "bob@hoge.example"
    assert senders["alice@hoge.example"] == "alice@hoge.example,bob@hoge.example"
    assert senders["bob@hoge.example"] == "bob@hoge.example"
    assert senders["postmaster@hoge.example"] == "alice@hoge.example,bob@hoge.example"
    assert "away@hoge.example" not in senders  # so that the line of the domain is found
    assert senders["bob@xn--wgv71a.example"] == "bob@xn--wgv71a.example"


def test_grants_of_accounts_and_domains_that_are_not_in_use_are_not_exported(
    settings_for: SettingsFor,
) -> None:
    grants = [
        Grant("bob@xn--wgv71a.example", "alice@hoge.example"),
        Grant("alice@hoge.example", "bob@xn--wgv71a.example"),
        Grant("alice@hoge.example", "@xn--wgv71a.example"),
    ]
    texts = exported(settings_for("hoge.example"), grants=grants).texts()
    assert "xn--wgv71a" not in "".join(texts.values())
