"""python -m indexer"""

from common.daemon import entrypoint
from indexer.app import main

entrypoint(main)
