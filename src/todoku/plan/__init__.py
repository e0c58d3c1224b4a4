"""Plan and apply: what differs from what is wanted, in which order it is put right, and doing it."""
