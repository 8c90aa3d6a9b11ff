"""The one shipped profile: what every database of every deployment is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

__all__ = ["DYNAMIC_CONFIGURATION", "POSTGRES_PARAMETERS", "differences"]

JsonObject = Mapping[str, object]

POSTGRES_PARAMETERS: JsonObject = {
    # What is acknowledged when nobody asked for more. The runtime asks for remote_apply in each
    # transaction on a strong resource; an eventual one is acknowledged by the primary alone. A
    # default of `on` would charge every commit of the latter a round trip between regions.
    "synchronous_commit": "local",
    "password_encryption": "scram-sha-256",
    # No socket file: a data folder's path may be longer than the 107 bytes that one may have.
    "unix_socket_directories": "",
    # Files of /dev/shm would survive a SIGKILL; these lie in the data folder and are cleaned there.
    "dynamic_shared_memory_type": "mmap",
    "io_method": "sync",
    "jit": "off",
    "max_connections": 200,
    "shared_buffers": "64MB",
    "wal_level": "logical",
    "max_wal_senders": 10,
    "max_replication_slots": 10,
    "min_wal_size": "80MB",
    "max_wal_size": "1GB",
    # All of it crosses an ocean, and a page that is written whole is a burst of it. Built without
    # lz4, as the packaged server is, PostgreSQL has only its own way.
    "wal_compression": "pglz",
    # Enough for a rewind, and a bound on what a lost region may hold back.
    "wal_keep_size": "128MB",
    "max_slot_wal_keep_size": "2GB",
    # A region that vanished holds synchronous commits up until these run out (default: 60 s).
    "wal_sender_timeout": "3s",
    "wal_receiver_timeout": "3s",
    "wal_receiver_status_interval": "1s",
    "wal_retrieve_retry_interval": "500ms",
    "tcp_user_timeout": "3000",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "3",
    # Reads on a replica are short: rather keep their rows on the primary than cancel them, and
    # never hold replay, on which remote_apply waits, for more than this.
    "hot_standby_feedback": "on",
    "max_standby_streaming_delay": "2s",
    "idle_in_transaction_session_timeout": "60s",
    "log_line_prefix": "%m [%p] ",
    "log_checkpoints": "off",
    "log_timezone": "UTC",
    "timezone": "UTC",
}

DYNAMIC_CONFIGURATION: JsonObject = {
    # Patroni raises a smaller ttl to 20 without a word; loop_wait + 2 x retry_timeout fits in.
    "ttl": 20,
    "loop_wait": 1,
    "retry_timeout": 3,
    "primary_start_timeout": 0,  # a crashed primary: the other region takes over at once
    "primary_stop_timeout": 5,
    "synchronous_mode": "on",
    "synchronous_node_count": 1,
    "failsafe_mode": False,
    "check_timeline": True,
    "maximum_lag_on_failover": 1048576,
    "postgresql": {
        "use_pg_rewind": True,
        "use_slots": True,
        "parameters": POSTGRES_PARAMETERS,
    },
}
"""What all nodes are told by way of etcd; what each is told of itself is in its own file."""


def differences(asked: JsonObject, found: JsonObject, prefix: str = "") -> Iterator[str]:
    """Yield a sentence for each setting asked for that is not found so; unasked ones are ignored."""
    for key, wanted in asked.items():
        actual = found.get(key)
        if isinstance(wanted, Mapping) and isinstance(actual, Mapping):
            yield from differences(wanted, actual, f"{prefix}{key}.")
        elif str(actual) != str(wanted):
            yield f"{prefix}{key} is {actual}, asked for {wanted}"
