"""The Octopus Server's REST interface: a client of it, and what registering and deregistering a machine say over it.

Knows HTTP and the server's documents.  Must not know settings, the command line, or the Halibut wire.
"""
