"""Reference implementations, one readable file a system."""
