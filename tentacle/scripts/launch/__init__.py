"""How the agent reaches the fork server and the shims; no other package does."""
