"""Everything that this server asks of a worker, over the wire."""
