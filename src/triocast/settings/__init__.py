"""Settings: what can be set (`model`), where values come from (`sources`), and what is refused (`check`)."""

from triocast.settings.address import Address as Address
from triocast.settings.address import parse_address as parse_address
from triocast.settings.check import addresses as addresses
from triocast.settings.check import check_exposure as check_exposure
from triocast.settings.made import check_made as check_made
from triocast.settings.made import check_shared as check_shared
from triocast.settings.model import GroupSettings as GroupSettings
from triocast.settings.model import LogFormat as LogFormat
from triocast.settings.model import LogLevel as LogLevel
from triocast.settings.model import Settings as Settings
from triocast.settings.sources import Loaded as Loaded
from triocast.settings.sources import load as load
