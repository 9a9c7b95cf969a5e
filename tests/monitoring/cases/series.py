"""What a case of an alert is made of, and who exports the series in it.

Values are in promtool's notation: `0+60x30` is 0, 60, 120, ... for 30 more steps; a step is a minute unless said
otherwise, and time begins at 0, so that `0+60x30` is also a clock.
"""

from dataclasses import dataclass

Series = dict[str, str]


@dataclass(frozen=True)
class Case:
    fires: Series
    quiet: Series
    after: str = "60m"
    step: str = "1m"


INGESTER = 'service="ingester",instance="ingester:4100"'
BACKFILLER = 'service="backfiller",instance="backfiller1:9090"'
INDEXER = 'service="indexer",instance="indexer1:9090"'
INDEXER2 = 'service="indexer",instance="indexer2:9090"'
RELAY = f'{INGESTER},source="firehose",host="relay.example"'
OTHER = f'{INGESTER},source="firehose",host="other.example"'
LIVE = 'stream="firehose_live"'
GROUP = f'{LIVE},group="firehose_group"'
CLOCK = "0+60x120"
ALL_UP = {f"up{{{who}}}": "1x120" for who in (INGESTER, BACKFILLER, INDEXER, INDEXER2)}
