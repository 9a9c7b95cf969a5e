"""The network becomes events on the streams."""
