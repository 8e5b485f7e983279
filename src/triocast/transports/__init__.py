"""The ways out to clients; each is a `triocast.connection.Transport`."""
