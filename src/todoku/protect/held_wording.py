"""What addressees of held messages read, in Japanese and English. Strangers' words are shown, never followed."""

from __future__ import annotations

from todoku.protect.held import About
from todoku.protect.wording import Letter, day


def asked(about: About, link: str) -> Letter:
    """To the addressee, at once."""
    files = "".join(f"  {name}\n" for name in about.files[:20])
    until = day(about.language, about.expires)
    if about.language == "ja":
        return Letter(
            f"保留中のメール: {about.subject}",
            "パスワード付き ZIP が添付されたメールを保留しています。中身をウイルス検査できないためです。\n\n"
            f"差出人: {about.author}\n件名: {about.subject}\nファイル:\n{files}"
            f"期限: {until}（過ぎると削除されます）\n\n"
            "心当たりのあるメールであれば、次のページに ZIP のパスワードを入力してください。"
            f"検査で何も見つからなければ、メールが元のまま届きます。\n{link}\n\n"
            "心当たりがなければ、何もしないでください。\n",
        )
    return Letter(
        f"Held: {about.subject}",
        "A message for you is held, because it has a password-protected ZIP, which cannot be scanned for malware.\n\n"
        f"From: {about.author}\nSubject: {about.subject}\nFiles:\n{files}Until: {until}, then it is deleted\n\n"
        "If you expect it, enter the password of the ZIP on this page. If nothing is found in it, the message is "
        f"delivered as it came:\n{link}\n\n"
        "If you do not, do nothing.\n",
    )


def malware(about: About, signature: str) -> Letter:
    """To the addressee, when something was found."""
    if about.language == "ja":
        return Letter(
            f"ウイルスが見つかりました: {about.subject}",
            f"保留していたメールの ZIP から {signature} が見つかったため、配達しません。\n\n"
            f"差出人: {about.author}\n件名: {about.subject}\n",
        )
    return Letter(
        f"Malware found: {about.subject}",
        f"The message that was held for you is not delivered: {signature} was found in its ZIP.\n\n"
        f"From: {about.author}\nSubject: {about.subject}\n",
    )


def to_the_postmaster(about: About, signature: str, job: str, recipient: str) -> Letter:
    """Who gave the password is `recipient`."""
    people = "".join(f"  {each}\n" for each in about.recipients[:10])
    return Letter(
        f"Malware refused: {signature}",
        f"A message that was held for its password-protected ZIP is not delivered: ClamAV found {signature} in it\n"
        f"after {recipient} had given the password.\n\n"
        f"Envelope sender: {about.sender or '<>'}\nFrom:            {about.author}\n"
        f"Subject:         {about.subject}\nRecipients:\n{people}\n"
        f"It stays in the quarantine until it is over (todoku protect held show {job[:12]}), and nobody gets it.\n",
    )


def not_taken(about: About, words: str) -> Letter:
    """To the addressee: it was released, and this machine itself refuses it."""
    if about.language == "ja":
        return Letter(
            f"配達できませんでした: {about.subject}",
            f"保留していたメールを配達できませんでした。管理者にお問い合わせください。\n\n理由: {words}\n"
            f"差出人: {about.author}\n件名: {about.subject}\n",
        )
    return Letter(
        f"Not delivered: {about.subject}",
        f"The message that was held for you could not be delivered. Please ask your postmaster.\n\nWhy: {words}\n"
        f"From: {about.author}\nSubject: {about.subject}\n",
    )
