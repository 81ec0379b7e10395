"""What runs inside a host: supervises one program, breaks and heals the host, and lets the conductor listen in.

Starts fast: the standard library, msgspec, and `midsession.core` modules that need no more than those.
"""
