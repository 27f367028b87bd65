"""The bytes between an agent and a server, or a proxy before it, as pure protocols: bytes in, events out, bytes out.

Must not know sockets, TLS, files, asyncio or what a call means.
"""
