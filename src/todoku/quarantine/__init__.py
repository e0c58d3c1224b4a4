"""Messages that are held for their password-protected ZIPs: their addressees are asked for the password, what it opens
is scanned, and the message goes on or is refused. A service of its own, behind the page, which can read none of it.
"""
