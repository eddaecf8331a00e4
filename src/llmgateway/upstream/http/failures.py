"""What can go wrong on the way to a provider: all of it is an `OSError`, as what the operating system says is.

```
OSError
├── TimeoutError          no connection in time
├── ssl.SSLError          no secure connection; ssl.SSLCertVerificationError: not trusted
└── ConnectionError
    ├── NotAnAddressError     nothing was asked
    ├── NameNotFoundError     nothing was asked
    ├── NoConnectionError     nothing was asked
    ├── NotHTTPError          what came is not HTTP/1.1, or more of it than is taken
    └── LostError             the connection ended before the answer did
```
"""


class NotAnAddressError(ConnectionError):
    """The address or a header cannot be asked with."""


class NameNotFoundError(ConnectionError):
    """The name service knows no address of the host."""


class NoConnectionError(ConnectionError):
    """None of the host's addresses took a connection."""


class NotHTTPError(ConnectionError):
    """What came is not HTTP/1.1, or more of it than is taken."""


class LostError(ConnectionError):
    """The connection ended before the answer did."""
