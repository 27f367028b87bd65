"""Between the wire and the network: TLS, trust, listening, dialling, polling, and the calling side.

Must not know contracts, services or settings: a call is a `wire` request that a handler answers.
"""
