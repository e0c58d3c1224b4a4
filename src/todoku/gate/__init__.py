"""The gate: Todoku's milter. Every message passes it once, in both directions, and leaves it able to arrive.

`protocol`, `events` and `replies` are the wire (no I/O), `session` is one conversation with the mail server,
`message` is what a rule sees, `decision` what it may answer, `rules` their order, `server` the processes.
"""
