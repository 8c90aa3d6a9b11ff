"""What keeps a failure from spreading.

This room knows when something that does not answer is asked no more for a while. It refuses to know
what that is, and what is done instead: whoever asks has that rule.
"""

from viral_engine.guards.circuit import Circuit, CircuitOpenError

__all__ = ["Circuit", "CircuitOpenError"]
