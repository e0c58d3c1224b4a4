"""What the pages of subscriptions say, in Japanese and in English."""

from __future__ import annotations

from collections.abc import Mapping

TEXTS: Mapping[str, Mapping[str, str]] = {
    "ja": {
        "subscribe": "配信の申し込み",
        "address": "メールアドレス",
        "send": "申し込む",
        "asked": "確認のメールをお送りしました。メールの中のリンクを開くと、申し込みが完了します。",
        "wrong_address": "メールアドレスをもう一度ご確認ください。",
        "confirm": "申し込みの確認",
        "confirm_question": "{address} に「{title}」をお送りしてよろしいですか。",
        "confirm_button": "はい、受け取ります",
        "confirmed": "申し込みが完了しました。",
        "unsubscribe": "配信停止",
        "unsubscribe_question": "{address} への「{title}」の配信を停止しますか。",
        "unsubscribe_button": "配信を停止する",
        "unsubscribed": "配信を停止しました。",
        "preferences": "配信の設定",
        "language": "言語",
        "counted": "開封とクリックの記録を許可する",
        "save": "保存する",
        "saved": "保存しました。",
        "none": "受け取っている配信はありません。",
        "not_known": "このリンクは使えません。",
        "to_preferences": "配信の設定を開く",
    },
    "en": {
        "subscribe": "Subscribe",
        "address": "Mail address",
        "send": "Subscribe",
        "asked": "We have sent you a message. Open the link in it to confirm.",
        "wrong_address": "Please check the mail address.",
        "confirm": "Confirm your subscription",
        "confirm_question": "Shall we send {title} to {address}?",
        "confirm_button": "Yes, send it to me",
        "confirmed": "You are subscribed.",
        "unsubscribe": "Unsubscribe",
        "unsubscribe_question": "Shall we stop sending {title} to {address}?",
        "unsubscribe_button": "Unsubscribe",
        "unsubscribed": "You are unsubscribed.",
        "preferences": "Your subscriptions",
        "language": "Language",
        "counted": "Opens and clicks of mine may be counted",
        "save": "Save",
        "saved": "Saved.",
        "none": "You are not subscribed to anything.",
        "not_known": "This link cannot be used.",
        "to_preferences": "All your subscriptions",
    },
}
