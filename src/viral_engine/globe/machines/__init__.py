"""Machines of the globe: one group of processes each, its owner, its checks and its restarts.

This room knows processes and the wire's idea of a machine; which machines there should be, and
who reaches them, is decided elsewhere.
"""

__all__: list[str] = []
