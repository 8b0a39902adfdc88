"""What a demo or a test does to the simulator: everything under /_sim/."""
