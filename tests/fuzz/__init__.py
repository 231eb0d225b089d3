"""Files made to do harm, in numbers: see ``__main__`` for the driver, ``make fuzz`` for a long run."""
