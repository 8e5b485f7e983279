from __future__ import annotations
from enum import Enum
class Policy(Enum):
    DROP_OLDEST = "drop_oldest"
    DISCONNECT = "disconnect"
