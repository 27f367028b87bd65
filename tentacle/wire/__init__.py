"""The bytes between an agent and a server, as a pure protocol: bytes in, events out, bytes out.

Must not know sockets, TLS, files, asyncio or what a call means.
"""
