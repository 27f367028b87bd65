"""The engine: runs scripts so that their result outlives the agent.

Knows workspaces, processes, durable logs, mutexes and sandboxes.  Must never see the network, a remote call or the
wire.  This file stays empty of imports: the fork server and the shims import the package and must stay small.
"""
