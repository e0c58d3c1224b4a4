"""What the simulated internet is made of, before anybody serves mail in it: addresses, names, keys, certificates."""
