"""python -m backfiller"""

import os

from backfiller.app import main
from common.daemon import entrypoint

if __name__ == "__main__":
    entrypoint(lambda: main(os.environ))
