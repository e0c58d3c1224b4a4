"""Pages that people open."""
