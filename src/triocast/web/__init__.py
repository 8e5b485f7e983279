"""The HTTP and WebSocket face of Triocast, as Quart blueprints; thin: parse, call, answer."""

from triocast.web.app import create_app as create_app
from triocast.web.batch import batch_routes as batch_routes
from triocast.web.blueprint import routes as routes
from triocast.web.errors import answer_errors_with_json as answer_errors_with_json
from triocast.web.events import EventsFront as EventsFront
from triocast.web.events import events_routes as events_routes
from triocast.web.forwarded import Forwarded as Forwarded
from triocast.web.front import PublishFront as PublishFront
from triocast.web.gate import Gate as Gate
from triocast.web.groups import group_routes as group_routes
from triocast.web.health import health_routes as health_routes
from triocast.web.history import history_routes as history_routes
from triocast.web.limits import bound_bodies as bound_bodies
from triocast.web.members import company_routes as company_routes
from triocast.web.members import member_routes as member_routes
from triocast.web.metrics import metrics_routes as metrics_routes
from triocast.web.poll import PollFront as PollFront
from triocast.web.poll import poll_routes as poll_routes
from triocast.web.publish import publish_routes as publish_routes
from triocast.web.socket import socket_routes as socket_routes
from triocast.web.steering import steering_routes as steering_routes
