"""A client of the Octopus Server's REST interface, and the conversations that register and deregister a machine.

Knows HTTP and the server's documents.  Must not know settings, the command line, or the Halibut wire.
"""
