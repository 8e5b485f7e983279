"""How messages are written for clients: codecs without I/O, each called once per message."""
