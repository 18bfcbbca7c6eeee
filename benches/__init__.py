"""What it costs: every figure is one JSON line on standard output."""
