"""Moving house: the mail of an account, copied from another server over IMAP."""
