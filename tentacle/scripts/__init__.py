"""The engine: runs scripts so that their result outlives the agent.

Knows workspaces, processes, durable logs, isolation.  Must never see the network, a remote call or the wire.
This file stays empty of imports: the processes that watch over scripts import the package and must stay small.
"""
