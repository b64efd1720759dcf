"""Errors: one class for each code that the Rust crate has, under one parent.

A denial is not among them. Every error is raised before anything is changed, and its text says what to do.
"""

from __future__ import annotations

from typing import ClassVar, Final

from ratelimit import _native


class Error(Exception):
    """What is misuse, or cannot be done. `name` and `code` are the same in every language."""

    name: ClassVar[str] = "error"
    code: ClassVar[int] = 0


class InvalidLimitError(Error, ValueError):
    """A limit makes no sense, or its text is not a limit."""

    name = "invalid_limit"


class LimitCountError(Error, ValueError):
    """No limit, too many, or another number than are in force."""

    name = "limit_count"


class MaxKeysError(Error, ValueError):
    """`max_keys` is more than a table can address."""

    name = "max_keys"


class SystemError(Error):
    """The system gave no memory, or no randomness."""

    name = "system"


class FullError(Error):
    """No room for another override or block."""

    name = "full"


class LengthsError(Error, ValueError):
    """Lists that belong together differ in length."""

    name = "lengths"


class PolicyError(Error, ValueError):
    """Policies for header fields do not fit."""

    name = "policy"


class OptionError(Error, ValueError):
    """An option that does not exist, has a wrong value, or contradicts another."""

    name = "option"


class UnsupportedError(Error):
    """Something that this version or build cannot do."""

    name = "unsupported"


class ArgumentError(Error, TypeError, ValueError):
    """An argument of the wrong kind, or out of its range."""

    name = "argument"


class ClosedError(Error, ValueError):
    """The limiter was closed."""

    name = "closed"


class InternalError(Error, RuntimeError):
    """A bug of this library, contained."""

    name = "internal"


class PersistError(Error):
    """No snapshot can be kept there, or that often."""

    name = "persist"


class SnapshotBusyError(Error):
    """Another limiter keeps its snapshot there."""

    name = "snapshot_busy"


class SnapshotWriteError(Error):
    """A snapshot could not be written; the one before is as it was."""

    name = "snapshot_write"


class RestoreRequiredError(Error):
    """A whole snapshot was required, and there was none."""

    name = "restore_required"


class NotPersistentError(Error):
    """A snapshot was asked of a limiter that keeps none."""

    name = "not_persistent"


class ForkedChildError(Error):
    """A forked child was asked for what only its parent may do."""

    name = "forked_child"


class ShareNameError(Error, ValueError):
    """A name that a shared table cannot have."""

    name = "share_name"


class ShareMismatchError(Error):
    """The shared table has other limits, size, hash key or clock."""

    name = "share_mismatch"


class ShareFullError(Error):
    """Too many limiters are attached to the shared table."""

    name = "share_full"


class ShareUnavailableError(Error):
    """The shared table cannot be made, opened or removed."""

    name = "share_unavailable"


class ClusterConfigError(Error, ValueError):
    """A cluster's name, address, owner, certificate or secret cannot be."""

    name = "cluster_config"


class ClusterStartError(Error):
    """A cluster's node cannot be started."""

    name = "cluster_start"


CLASSES: Final[dict[str, type[Error]]] = {error.name: error for error in Error.__subclasses__()}

# The numbers are the crate's; they are not written down a second time.
for _code, _name, _meaning in _native.ERROR_CODES:
    if _name in CLASSES:
        CLASSES[_name].code = _code


def make(name: str, text: str) -> Error:
    """The exception for an error of the crate; called by the native module."""
    return CLASSES.get(name, Error)(text)
