"""What operators do, one verb a file; it speaks to any platform through the client it is handed.

This room knows deployments and the platform's wire. It never learns whether a laptop or Fly.io is
on the other side, and prints nothing: it tells its progress to whoever called.
"""

__all__: list[str] = []
