"""Weak scaling: trials that only sleep on real workers, and a simulation beyond what one machine bears."""
