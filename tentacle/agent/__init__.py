"""The agent: everything put together, kept running, and ended cleanly.  Must not know the command line."""
