"""The Machines API of the globe on loopback: HTTP in, the platform's methods out.

This room knows the wire's paths, statuses and texts, and decides nothing about machines.
"""

__all__: list[str] = []
