"""The copy of this machine that a rehearsal happens in: its root, its packages, entering it and leaving nothing."""
