"""What things cost, side by side in one run: ``make bench``. Measured, never asserted."""
