"""What every long-lived process does once it has imported the project: its modules are no garbage, and need no looking over."""

import gc

THRESHOLDS = (
    25_000,
    20,
    20,
)  # Python's 700 looks after every few rows; a drawn page or a batch of rows makes thousands


def settle() -> None:
    """Leave what is loaded by now out of every later garbage collection, and collect less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
