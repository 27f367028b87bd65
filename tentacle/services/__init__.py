"""Our answer to each remote call.  Must not know by which wire a call came."""
