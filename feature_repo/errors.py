"""What can go wrong, and who can mend it.

FreshetError
├── InputError        a file, row or argument that a person gave is unusable
├── BundleError       a model bundle is missing, damaged or made for other features
├── GateRefusedError  a trained bundle is worse than the one that is live
├── QualityError      a part of the log is not fit to be learned from
├── NotLoggedError    no request of this id was logged, or not yet
├── GoneError         what a replay needs is past its retention
├── LogUnavailableError   the event log cannot be reached or is full; try again later
└── OnlineStoreUnavailableError   no Redis answers Feast (feature_repo.online_store)

Every message says what is wrong, where, and what to do next. The command line prints it as one
line and exits 1; the API answers 4xx or 503.
"""

from errno import EADDRINUSE


class FreshetError(Exception):
    """Base of every error that Freshet raises on purpose."""


class InputError(FreshetError):
    """A file, row or argument that a person gave is unusable."""


class BundleError(FreshetError):
    """A model bundle is missing, damaged or made for other features."""


class GateRefusedError(FreshetError):
    """A trained bundle scores below the lower bound of the one that is live."""


class QualityError(FreshetError):
    """A part of the log is not fit to be learned from."""


class NotLoggedError(FreshetError):
    """No request of this id was logged, or not yet."""


class GoneError(FreshetError):
    """What a replay needs is past its retention."""


class LogUnavailableError(FreshetError):
    """The event log cannot be reached or is full."""


def cannot_listen(error: OSError, host: str, port: int, setting: str) -> InputError:
    """Why nobody can listen at an address whose port a setting names."""
    if error.errno == EADDRINUSE:
        return InputError(
            f"port {port} of {host} is taken: set {setting} to a free port, or end what listens there"
        )
    return InputError(f"cannot listen on {host} ({error.strerror}): set FRESHET_HOST or {setting}")
