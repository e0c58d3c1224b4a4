"""What commands and services are made of: where the rooms are wired together, and what several commands share."""
