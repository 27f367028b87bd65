"""How the agent reaches what starts scripts: the only place that knows."""
