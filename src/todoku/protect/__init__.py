"""Attachments that only the right person can open: the policy, taking them out of a message, and what replaces them.

The gate calls it for mail of our own people to recipients outside (`gate.rules.protection`). Facts: the design answers
what SaMMA does in Japan's offices, without the password that follows in the next mail.
"""
