"""Certificates: whoever gives them out, when they are renewed, and how Postfix and Dovecot take them in."""
