"""The history of the database's shape, one numbered file a step, in plain SQL."""
