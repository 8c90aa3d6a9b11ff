"""The platform on a laptop: machines as process groups, a network between regions, edges, faults.

This room knows the Machines API from the serving side, and processes, packets and proxies. It knows
nothing of databases, of deployments, or of what a machine's command does.
"""

__all__: list[str] = []
