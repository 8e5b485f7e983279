"""The serve loop: `triocast serve` from its settings to its exit code."""

from triocast.serve.loop import run as run
