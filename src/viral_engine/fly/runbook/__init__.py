"""What people write down and type later: guides, scripts and queries, judged like fly.toml.

This room knows commands of the platform that do not do what they are typed for. It reads text and
runs nothing of it.
"""

from viral_engine.fly.runbook.lint import RULES, lint_text

__all__ = ["RULES", "lint_text"]
