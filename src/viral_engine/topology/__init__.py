"""What a deployment is: viral.toml in, frozen values out.

This room knows the regions of the platform and how far apart they are, the shape of a deployment
and every rule that makes one valid, what the parts of it are called in the environment, and where
a process finds itself. It refuses to know what is running: nothing here opens a socket, starts a
process or asks a platform. Import the module that holds what you need.
"""

__all__ = ["here", "load", "model", "names", "reference", "regions", "rtt", "witness"]
