"""What has to exist in Oracle's cloud: Email Delivery, and the user who may send through it."""
