"""An Actor behind a socket, and a socket as an Actor."""
