"""The formats, tested by the properties that every recorded stream must keep (recordings.py says where they are)."""
