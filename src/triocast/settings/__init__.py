"""Settings: what can be set (`model`) and where values come from (`sources`)."""

from triocast.settings.model import GroupSettings as GroupSettings
from triocast.settings.model import LogFormat as LogFormat
from triocast.settings.model import LogLevel as LogLevel
from triocast.settings.model import Settings as Settings
