"""Benchmarks of Todoku, side by side with peers: see docs/benchmarks.md. `script/bench` runs them."""
