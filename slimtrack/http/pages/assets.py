"""The files that pages load: scripts, styles, pictures."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final, NamedTuple

import falcon

from slimtrack.http import problems
from slimtrack.http.auth import PUBLIC

_MEDIA_TYPES: Final[Mapping[str, str]] = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
#: The packages whose ``assets`` are served.
_PACKAGES: Final[Sequence[str]] = (
    "slimtrack.http.pages",
    "slimtrack.http.dashboard",
    "slimtrack.http.tracking_page",
)


class _Asset(NamedTuple):
    content: bytes
    media_type: str
    digest: str


class Assets:
    """`/assets/{digest}/{name}`: may be kept for ever, since other content has another digest."""

    scopes = PUBLIC
    media_types = tuple(_MEDIA_TYPES.values())

    def on_get(self, _req: falcon.Request, resp: falcon.Response, digest: str, name: str) -> None:
        """Return the file."""
        asset = _assets().get(name)
        if asset is None or asset.digest != digest:
            raise problems.path_not_found()
        resp.content_type = asset.media_type
        resp.set_header("Cache-Control", "public, max-age=31536000, immutable")
        resp.data = asset.content


def url_of(name: str) -> str:
    """Return where a file is; its name is that below ``assets``, without folders."""
    return f"/assets/{_assets()[name].digest}/{name}"


@cache
def _assets() -> Mapping[str, _Asset]:
    found: dict[str, _Asset] = {}
    for package in _PACKAGES:
        for file in _files(files(package).joinpath("assets")):
            media_type = _MEDIA_TYPES.get(file.name.rpartition(".")[2])
            if media_type:
                content = file.read_bytes()
                digest = hashlib.sha256(content).hexdigest()[:16]
                found[file.name] = _Asset(content, media_type, digest)
    return found


def _files(folder: Traversable) -> list[Traversable]:
    found = []
    for each in folder.iterdir():
        found += _files(each) if each.is_dir() else [each]
    return found
