"""What people write: one file per kind of document."""
