"""What became of every message: the log, the gate and the relay's own word, in one ledger."""
