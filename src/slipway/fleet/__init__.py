"""Clusters (and, later, machines and pools): where work can run, and who may run it there."""
