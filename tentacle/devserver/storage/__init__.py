"""Rows and the database that keeps them."""
