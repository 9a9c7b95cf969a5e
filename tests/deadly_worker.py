"""A worker that dies of some frames and hangs over others; all others it reads as it should."""

import os
import sys
import threading

from common.collection_filter import CollectionFilter
from ingester.frame_reader import FrameReader, KeyAnswer, Outcome
from ingester.verification import Mode
from ingester.worker_process import serve

DEADLY, ENDLESS = b"deadly", b"endless"


class Victim(FrameReader):
    def read(self, frame: bytes, answer: KeyAnswer | None = None) -> Outcome:
        if frame.startswith(DEADLY):
            os.abort()
        if frame.startswith(ENDLESS):
            threading.Event().wait()
        return super().read(frame, answer)


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer, Victim(Mode(sys.argv[1]), CollectionFilter(("*",))))
