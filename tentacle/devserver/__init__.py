"""An embedded Octopus-like server, to try and to test a worker agent without a real server.

Knows the REST resources that clients touch and how a server directs a worker.  Must not know how the agent works
inside: the two meet only on the wire.

Each folder uses those before it, and enters them by their `__init__`: `storage` (what is kept), `worker` (what is asked
of a worker), `tasks` (what a task does), `rest` (the API), then `page` and `main`.
"""
