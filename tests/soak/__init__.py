"""Servers of several processes under load while something of theirs fails, and an exact account of what came of it."""
