"""The connection that a statement is run on."""

from typing import Any

import psycopg

#: Whatever its rows are: each statement says what it makes of them.
Connection = psycopg.Connection[Any]
