"""`extract`: packages."""
