"""A client for listening: `async with open_listener(url, groups) as messages: async for message in messages`.

Works against any Triocast server; it shares nothing with one but the rule for group names, positions and
the close codes.
"""

from triocast.client.backoff import BackoffSettings as BackoffSettings
from triocast.client.errors import CannotConnect as CannotConnect
from triocast.client.errors import HandshakeRefused as HandshakeRefused
from triocast.client.errors import InvalidURL as InvalidURL
from triocast.client.errors import ListenerClosed as ListenerClosed
from triocast.client.errors import UnexpectedFrame as UnexpectedFrame
from triocast.client.frames import Gap as Gap
from triocast.client.frames import Left as Left
from triocast.client.frames import Received as Received
from triocast.client.keeper import Lost as Lost
from triocast.client.listener import Listener as Listener
from triocast.client.listener import open_listener as open_listener
from triocast.client.members import Members as Members
from triocast.client.presence import Departure as Departure
from triocast.client.presence import Member as Member
from triocast.client.presence import Move as Move
from triocast.client.presence import Presence as Presence
from triocast.client.presence import PresenceReset as PresenceReset
from triocast.client.settings import ListenerSettings as ListenerSettings
