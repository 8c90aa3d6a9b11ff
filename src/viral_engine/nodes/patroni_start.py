"""``python -m viral_engine.nodes.patroni_start FILE``: Patroni, once its store is there.

It loads nothing outside the guard: Patroni starts PostgreSQL through helpers that load this module
again.
"""

if __name__ == "__main__":
    import os

    from viral_engine.nodes.opening import open_store_then_patroni

    open_store_then_patroni(os.environ)
