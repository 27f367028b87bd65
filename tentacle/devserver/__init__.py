"""An embedded Octopus-like server, to try and to test a worker agent without a real server.

Knows the REST resources that clients touch and how a server orchestrates a worker.  Must not know how the agent works
inside: the two meet only on the wire.
"""
