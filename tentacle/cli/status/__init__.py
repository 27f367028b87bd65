"""`status`: the state of an instance, gathered and shown."""
