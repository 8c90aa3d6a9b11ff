"""The platform's own deployment file, fly.toml: read, judged by rules, written.

This room knows which keys the file has and what each of them does to a deployment in many regions.
It never asks a platform, and knows no deployment but the one that the file is about.
"""

from viral_engine.fly.fly_toml.lint import TOML_RULES, lint
from viral_engine.fly.fly_toml.rule import Finding, Rule, Severity

__all__ = ["TOML_RULES", "Finding", "Rule", "Severity", "lint"]
