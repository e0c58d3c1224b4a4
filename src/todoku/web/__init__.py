"""Pages that people open: the ones of the mail system that the world may reach, besides port 25.

Where recipients of protected attachments fetch them, and where people subscribe and unsubscribe: each a process and a
user of its own, which knows as little as possible of the rest of the mail system.
"""
