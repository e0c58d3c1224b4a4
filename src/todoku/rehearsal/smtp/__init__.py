"""SMTP as the simulated servers and clients of the rehearsal speak it (RFC 5321)."""
