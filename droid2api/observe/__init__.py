"""What is optional: it watches the gateway or tells of it, and the core runs without it."""
