"""The overview: is the pipeline well, and if not, where to look. System health above, performance below."""

from ops.boards.health import HEALTH, UPTIME
from ops.boards.panels import Board
from ops.boards.performance import BACKPRESSURE, ERRORS, LATENCY, QUEUES, RESOURCES, THROUGHPUT
from ops.boards.servers import HOST, SERVERS

BOARD = Board(
    "sluice-overview",
    "Sluice: overview",
    "Is the pipeline well, and if not, where to look.",
    (HEALTH, UPTIME, THROUGHPUT, QUEUES, ERRORS, LATENCY, RESOURCES, BACKPRESSURE, SERVERS, HOST),
)
