"""Real software in containers."""
