"""Oracle's relay, simulated: Email Delivery as seen from SMTP, what it signs, refuses and delivers."""
