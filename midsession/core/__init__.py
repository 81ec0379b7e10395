"""The pure core: values in, values out.

Nothing below this package does I/O, reads a clock, draws at random, or knows asyncio; `tests/test_architecture.py`
holds it to that. The agent, the fleet and the reference server import single modules from here, so every module
that they need (`record`, `plan`, `wire`, `session`, `reconnect`) depends on the standard library and msgspec alone.
"""
