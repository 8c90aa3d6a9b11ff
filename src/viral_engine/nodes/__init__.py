"""What runs inside a machine.

This room knows how a database, a witness and a cache are started, watched and stopped on the machine
they were given: where the engines' binaries are, what they are told, whose rights they run with, and
that none of them outlives its machine. It refuses to know what other machines exist beyond the
addresses in its environment, who made the machine, and what the application does with the engines.
"""

__all__: list[str] = []
