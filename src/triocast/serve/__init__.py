"""The serve loop: `triocast serve` from its settings to its exit code, in this process or with several workers."""

from triocast.serve.loop import run as run
from triocast.serve.supervisor import supervise as supervise
