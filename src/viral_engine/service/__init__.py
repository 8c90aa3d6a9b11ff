"""The bundled task service.

This room knows users, organizations, billing, tasks, metrics, audit logs and the dashboard: their
fields, their SQL and their migrations. It is a customer of the runtime
like any other app and uses nothing that a user's app could not; where a request is served it
refuses to know, and it only learns afterwards which route was taken.
"""

__all__: list[str] = []
