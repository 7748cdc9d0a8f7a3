"""A client of Anabranch: a log of events, and the services on it.

`open` gives a `Client`. What goes wrong is an `AnabranchError`, which says whether it happened.
"""

from ._reads import FilePlace, Place
from .client import PROTOCOL, Client, open
from .errors import (
    AnabranchError,
    BadAnswer,
    Conflict,
    Held,
    LeaseLost,
    Matched,
    NotOwner,
    OtherLog,
    OtherProtocol,
    Rejected,
    Unreachable,
    VersionMismatch,
)
from .lease import Lease, kept_secret
from .log import (
    Appended,
    Cut,
    Event,
    Expect,
    Filter,
    Kind,
    Match,
    NewEvent,
    NoMatch,
    Placed,
    Position,
)
from .session import Answer, Outcome, Session

__all__ = [
    "PROTOCOL",
    "AnabranchError",
    "Answer",
    "Appended",
    "BadAnswer",
    "Client",
    "Conflict",
    "Cut",
    "Event",
    "Expect",
    "FilePlace",
    "Filter",
    "Held",
    "Kind",
    "Lease",
    "LeaseLost",
    "Match",
    "Matched",
    "NewEvent",
    "NoMatch",
    "NotOwner",
    "OtherLog",
    "OtherProtocol",
    "Outcome",
    "Place",
    "Placed",
    "Position",
    "Rejected",
    "Session",
    "Unreachable",
    "VersionMismatch",
    "kept_secret",
    "open",
]
