"""What an encoder makes of a request for one upstream."""
