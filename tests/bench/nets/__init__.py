"""What counting costs on the nets of today; see ``__main__``."""
