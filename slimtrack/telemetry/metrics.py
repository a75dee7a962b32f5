"""Every metric, declared once."""

from typing import Final

from prometheus_client import Counter

RATE_LIMIT_SKIPPED: Final = Counter(
    "slimtrack_rate_limit_skipped_total",
    "Requests that passed uncounted because Redis did not answer.",
)
CACHE_REQUESTS: Final = Counter(
    "slimtrack_cache_requests_total",
    "Histories that were looked up in Redis.",
    ["outcome"],
)
