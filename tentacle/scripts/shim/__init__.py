"""All that outlives the agent: the processes that start scripts and watch over them.  Standard library only."""
