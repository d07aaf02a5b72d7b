"""What framing costs, side by side with peers and with the floor: ``python -m benchmarks``."""
