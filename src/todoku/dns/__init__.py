"""DNS: which records the settings need and why, what is published, what the world sees, and publishing."""
