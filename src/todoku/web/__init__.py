"""The page that recipients of protected attachments open: the one thing besides port 25 that the world may reach.

A process and a user of its own. It reads what the gate put on the shelf (`protect.shelf`), notes what happens, removes
what is over, and knows nothing else of the mail system.
"""
