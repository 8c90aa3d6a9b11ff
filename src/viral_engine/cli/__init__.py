"""The command ``viral``: one file a command; parsing, printing, and wiring the rooms together.

This room decides nothing: it hands each operation a client, a place and somebody to tell progress
to. It and the bundled service's composition root are the only readers of ``os.environ``.
"""

__all__: list[str] = []
