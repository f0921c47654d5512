"""Faults driven at the deployed local stack: what is sent is counted at the other end, whatever happens in between."""
