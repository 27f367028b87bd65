"""Registering and deregistering, for every command that does so."""
