"""What repairs cost; see ``__main__``."""
