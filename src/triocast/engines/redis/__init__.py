"""The Redis engine: one log for many processes, on Redis 7, Valkey, Sentinel or Cluster.

Every step that must be one is a script on the server; what this process needs of it is read on after whatever breaks.
"""
