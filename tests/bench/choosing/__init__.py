"""What asking about fewer channels, or on fewer images, changes in a ``best-first`` trial."""
