"""The fan-out with Django Channels: a consumer, a group of the in-memory channel layer, and a view that sends to it.

Made to be served by daphne: `daphne fan_channels:application`. The layer's queues are made as long as a run needs: at
their default of 100 messages it drops what a client has not taken.
"""

from __future__ import annotations

import django
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import get_channel_layer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="for a benchmark on loopback",
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": 1_000_000}}},
)
django.setup()


class Subscriber(AsyncWebsocketConsumer):
    """In the group while connected."""

    async def connect(self) -> None:
        """Join."""
        await self.channel_layer.group_add("bench", self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        """Leave."""
        await self.channel_layer.group_discard("bench", self.channel_name)

    async def push(self, event: dict[str, str]) -> None:
        """Send what the group was sent."""
        await self.send(event["text"])


async def publish(request: HttpRequest) -> HttpResponse:
    """Send one text to the group."""
    await get_channel_layer().group_send("bench", {"type": "push", "text": request.body.decode()})
    return HttpResponse("ok")


urlpatterns = [path("publish/bench", publish)]
application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": URLRouter([path("ws/bench", Subscriber.as_asgi())]),
    }
)
