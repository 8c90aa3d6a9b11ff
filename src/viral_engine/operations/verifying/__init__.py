"""Whether a deployment does what it should, as its users see it and as its machines say it.

What is asked and what comes back are values; ``judge`` makes lines of them, each kept, broken or
unknown. How a region's users are reached is an ``Asker``'s business: by the globe's doors, or from
inside a machine of that region on Fly.io.
"""

from viral_engine.operations.verifying.askers import Asker, Doors, Inside
from viral_engine.operations.verifying.line import Line
from viral_engine.operations.verifying.probe import Probe, probe_of
from viral_engine.operations.verifying.verify import Verification

__all__ = ["Asker", "Doors", "Inside", "Line", "Probe", "Verification", "probe_of"]
