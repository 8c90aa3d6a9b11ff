"""What was recorded while something was broken on purpose, and the checkers that judge it.

This room knows operations as their client saw them, and the guarantees that such a history keeps or
breaks. It refuses to know how a fault is made and what runs on the other side: nothing here asks a
database, and no checker trusts a server's own word for the order of versions.
"""

__all__: list[str] = []
