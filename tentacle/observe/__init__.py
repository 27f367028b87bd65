"""Logs: where records go, the secrets that are kept out of them, and the first lines about process and machine."""
