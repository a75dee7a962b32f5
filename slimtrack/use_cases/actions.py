"""The use case of whoever asks what operators did."""

from collections.abc import Sequence

from slimtrack.domain.operator_action import RecordedAction
from slimtrack.sql import operator_actions
from slimtrack.sql.errors import unavailable_if_away
from slimtrack.sql.pool import Pool, run


class Actions:
    """Looks at what operators did.

    Args:
        pool: connections to PostgreSQL, in autocommit.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def list(self, *, before: int | None, limit: int) -> Sequence[RecordedAction]:
        """Return what was done, the latest first, from before an action on.

        Raises:
            UnavailableError: the database does not answer.
        """
        with unavailable_if_away():
            return run(
                self._pool,
                lambda connection: operator_actions.list_actions(
                    connection, before=before, limit=limit
                ),
            )
