"""Server push for Python, by groups: the public names."""

from triocast.connection import Connection as Connection
from triocast.core.message import Draft as Draft
from triocast.core.message import Gap as Gap
from triocast.core.message import GapReason as GapReason
from triocast.core.message import Kind as Kind
from triocast.core.message import Message as Message
from triocast.core.message import Position as Position
from triocast.core.message import Receipt as Receipt
from triocast.core.overflow import Policy as Policy
from triocast.errors import Close as Close
from triocast.errors import ConnectionEnded as ConnectionEnded
from triocast.errors import EngineError as EngineError
from triocast.errors import InvalidGroupName as InvalidGroupName
from triocast.errors import InvalidMessage as InvalidMessage
from triocast.errors import MessageTooLarge as MessageTooLarge
from triocast.errors import NotRunning as NotRunning
from triocast.errors import Overloaded as Overloaded
from triocast.errors import SettingsError as SettingsError
from triocast.errors import TooManyConnections as TooManyConnections
from triocast.errors import TooManyGroups as TooManyGroups
from triocast.errors import TriocastError as TriocastError
from triocast.extension import GroupHandle as GroupHandle
from triocast.extension import Triocast as Triocast
from triocast.group import GroupInfo as GroupInfo
from triocast.settings import GroupSettings as GroupSettings
from triocast.settings import Settings as Settings
