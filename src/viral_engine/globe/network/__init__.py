"""The network between regions: addresses, links, faults, and the two ways to have it.

This room knows packets and namespaces and nothing of machines or requests.
"""

__all__: list[str] = []
