"""Tentacle: an Octopus-compatible worker agent and its command line."""

__version__ = "0.2.0"
