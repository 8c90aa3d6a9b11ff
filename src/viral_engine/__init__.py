"""Viral Engine runs one Python service in many regions, and proves that it does."""

__all__ = ["__version__"]

__version__ = "0.1.0"
