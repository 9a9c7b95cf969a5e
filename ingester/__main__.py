"""python -m ingester"""

from common.daemon import entrypoint
from ingester.app import main

entrypoint(main)
