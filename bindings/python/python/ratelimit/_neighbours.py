"""Whether another distribution has put its own files into the folder `ratelimit`.

PyPI's `ratelimit`, `asgi-ratelimit` and `django-ratelimit` before 4 install a module of the same name. pip mixes the
files of both, and removing one of them then tears holes into the other.
"""

from __future__ import annotations

import os
import re
import warnings

#: What may be in our folder.
OURS = frozenset(
    {
        "__init__.py",
        "__pycache__",
        "_aio.py",
        "_client_ip.py",
        "_decorator.py",
        "_errors.py",
        "_exit.py",
        "_limiter.py",
        "_native.pyi",
        "_neighbours.py",
        "_web.py",
        "asgi.py",
        "decorators.py",
        "exception.py",
        "py.typed",
        "utils.py",
        "wsgi.py",
    }
)

_NAME = "ratelimit-rs"


def warn_if_mixed() -> None:
    """Called once, at import. Cost: the names in two folders are read, and no file unless something is wrong."""
    folder = os.path.dirname(__file__)
    try:
        others = sorted(set(_others(os.path.dirname(folder))) | {f"the owner of {file}" for file in _strangers(folder)})
    except OSError:
        # Imported from an archive, or from a folder that may not be listed: there is nothing to compare.
        return
    if others:
        warnings.warn(
            f"other distributions install a module named ratelimit into the same folder: {', '.join(others)}. Their "
            f"files and those of {_NAME} are mixed: uninstall all of them, then install {_NAME} again",
            RuntimeWarning,
            stacklevel=3,
        )


def _strangers(folder: str) -> list[str]:
    return [name for name in os.listdir(folder) if name not in OURS and not re.match(r"_native\..*(so|pyd)$", name)]


def _others(site: str) -> list[str]:
    """Distributions beside ours that have `ratelimit` in their name and install a module of that name."""
    found = []
    for entry in os.listdir(site):
        match = re.match(r"(.+?)-[^-]+\.(dist-info|egg-info)$", entry)
        if match is None or "ratelimit" not in match[1].lower().replace("_", "").replace("-", ""):
            continue
        name = re.sub(r"[-_.]+", "-", match[1]).lower()
        if name != _NAME and _installs_ratelimit(os.path.join(site, entry)):
            found.append(name)
    return found


def _installs_ratelimit(information: str) -> bool:
    for file, pattern in (("RECORD", r"(?m)^ratelimit/"), ("top_level.txt", r"(?m)^ratelimit\s*$")):
        try:
            with open(os.path.join(information, file), encoding="utf-8", errors="replace") as text:
                if re.search(pattern, text.read()):
                    return True
        except OSError:
            continue
    return False
