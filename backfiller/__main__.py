"""python -m backfiller"""

from backfiller.app import main
from common.daemon import entrypoint

if __name__ == "__main__":
    entrypoint(main)
