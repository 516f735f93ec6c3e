"""The container's runtime, cgroups, namespaces and UID mapping."""
