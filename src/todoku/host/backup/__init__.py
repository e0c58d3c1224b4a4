"""A backup and its way back: one encrypted file, and everything that a restore puts in place."""
