"""What recipients and senders read, in Japanese and English."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from todoku.protect.language import Language


@dataclass(frozen=True, slots=True)
class Letter:
    """A notice: its subject and its text."""

    subject: str
    text: str


def size(octets: int) -> str:
    """As people say it: "1.2 MB"."""
    value = float(octets)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def day(language: Language, moment: float) -> str:
    """Until when, in this machine's time zone."""
    local = time.localtime(moment)
    if language == "ja":
        return f"{local.tm_year}年{local.tm_mon}月{local.tm_mday}日 {local.tm_hour}:{local.tm_min:02}"
    return time.strftime("%d %B %Y, %H:%M %Z", local).lstrip("0")


def linked(language: Language, link: str, files: Sequence[tuple[str, int]], expires: float) -> str:
    """In the message, instead of its attachments."""
    listed = "".join(f"  {name} ({size(octets)})\n" for name, octets in files)
    until = day(language, expires)
    if language == "ja":
        return (
            f"添付ファイル:\n{listed}\n次のページから受け取れます（{until} まで）。\n{link}\n\n"
            "ページを開くと、確認コードがこのメールアドレスに届きます。\n"
            "リンクはあなた専用です。転送しないでください。\n"
        )
    return (
        f"Attachments:\n{listed}\nFetch them from this page, until {until}:\n{link}\n\n"
        "The page mails a code to this address, and asks you for it.\n"
        "The link is for you alone: please do not forward it.\n"
    )


def links_given(
    language: Language,
    taken_back: str,
    files: Sequence[tuple[str, int]],
    recipients: Sequence[str],
    subject: str,
    expires: float,
) -> Letter:
    """To the sender."""
    names, people = _listed([name for name, _ in files]), _listed(recipients)
    until = day(language, expires)
    if language == "ja":
        return Letter(
            f"添付ファイルをリンクで送りました: {subject}",
            f"件名: {subject}\n宛先:\n{people}ファイル:\n{names}期限: {until}\n\n"
            f"取り消すには、このページを開いてください。\n{taken_back}\n",
        )
    return Letter(
        f"Attachments sent as links: {subject}",
        f"Subject: {subject}\nTo:\n{people}Files:\n{names}Until: {until}\n\n"
        f"To take them back, open this page:\n{taken_back}\n",
    )


def first_download(language: Language, recipient: str, name: str, subject: str, when: float) -> Letter:
    """To the sender."""
    moment = day(language, when)
    if language == "ja":
        return Letter(
            f"添付ファイルが受け取られました: {subject}",
            f"{recipient} が {moment} に {name} を受け取りました。\n件名: {subject}\n",
        )
    return Letter(
        f"Attachment fetched: {subject}",
        f"{recipient} fetched {name} on {moment}.\nSubject: {subject}\n",
    )


def code(language: Language, number: str) -> Letter:
    """To the recipient."""
    if language == "ja":
        return Letter(
            "添付ファイルの確認コード",
            f"確認コード: {number}\n\n10 分間有効です。心当たりがないときは、このメールを無視してください。\n",
        )
    return Letter(
        "Code for your attachments",
        f"Code: {number}\n\nIt is good for ten minutes. If you did not ask for it, ignore this mail.\n",
    )


def zipped(language: Language, archive: str, names: Sequence[str], *, agreed: bool = False) -> str:
    """In the message, beside the ZIP. `agreed`: with a password that the recipient has."""
    listed = "".join(f"  {name}\n" for name in names)
    if language == "ja":
        how = "別の方法で差出人からお受け取りください。" if not agreed else "取り決めたものです。"
        return (
            f"このメールの添付ファイルは、暗号化した ZIP（AES-256）{archive} に入っています。\n"
            f"{listed}\n開くためのパスワードは、{how}\n"
            "Windows の標準機能では開けません。7-Zip などをお使いください。\n"
        )
    how = (
        "The password is the one agreed on."
        if agreed
        else "The sender gives you the password by another way."
    )
    return (
        f"The attachments of this message are in the encrypted ZIP (AES-256) {archive}.\n"
        f"{listed}\n{how}\n"
        "Windows itself cannot open it: use 7-Zip or a similar program.\n"
    )


def zip_password(
    language: Language, password: str, names: Sequence[str], recipients: Sequence[str], subject: str
) -> Letter:
    """To the sender."""
    files, people = _listed(names), _listed(recipients)
    if language == "ja":
        return Letter(
            f"ZIP パスワードのお知らせ: {subject}",
            f"送信されたメールの添付ファイルを、暗号化した ZIP にして送りました。\n\n件名: {subject}\n宛先:\n{people}"
            f"ファイル:\n{files}\nパスワード: {password}\n\n"
            "このパスワードは、電話など、メールとは別の方法で相手にお伝えください。\n"
            "同じ経路のメールで送ると、メールを盗み見る者にはパスワードも見えるため、保護になりません。\n",
        )
    return Letter(
        f"Password of the ZIP: {subject}",
        f"The attachments of your message were sent as an encrypted ZIP.\n\nSubject: {subject}\nTo:\n{people}"
        f"Files:\n{files}\nPassword: {password}\n\n"
        "Tell it to the recipients by another way than mail, such as the telephone.\n"
        "By mail it would protect nothing: who can read the one message can read the other.\n",
    )


def zip_agreed(
    language: Language, who: str, names: Sequence[str], recipients: Sequence[str], subject: str
) -> Letter:
    """To the sender. Without the password: who agreed on it has it."""
    files, people = _listed(names), _listed(recipients)
    if language == "ja":
        return Letter(
            f"添付ファイルを ZIP にして送りました: {subject}",
            f"件名: {subject}\n宛先:\n{people}ファイル:\n{files}\nパスワードは {who} と取り決めたものです。\n",
        )
    return Letter(
        f"Attachments sent as a ZIP: {subject}",
        f"Subject: {subject}\nTo:\n{people}Files:\n{files}\nThe password is the one agreed on with {who}.\n",
    )


def zip_password_to_recipient(language: Language, password: str, subject: str) -> Letter:
    """To the recipient, only where the settings ask for it."""
    if language == "ja":
        return Letter(f"パスワード: {subject}", f"先ほどのメールの ZIP のパスワードです。\n\n{password}\n")
    return Letter(f"Password: {subject}", f"The password of the ZIP in the message before:\n\n{password}\n")


def _listed(lines: Sequence[str]) -> str:
    return "".join(f"  {line}\n" for line in lines)
