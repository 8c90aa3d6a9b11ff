"""The platform's own deployment file, fly.toml: read, judged by rules, written.

This room knows which keys the file has and what each of them does to a deployment in many regions.
It never asks a platform, and knows no deployment but the one that the file is about.
"""

from viral_engine.fly.fly_toml.file import FlyToml
from viral_engine.fly.fly_toml.lint import RULES, Finding, lint
from viral_engine.fly.fly_toml.rule import Rule, Severity

__all__ = ["RULES", "Finding", "FlyToml", "Rule", "Severity", "lint"]
