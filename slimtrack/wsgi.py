"""The door of the API: ``gunicorn "slimtrack.wsgi:create_app()"``."""

from wsgiref.types import WSGIApplication

from slimtrack.bootstrap import api
from slimtrack.settings import Settings


def create_app() -> WSGIApplication:
    """Build the WSGI app from the environment."""
    return api.create_api(Settings.from_environment())
