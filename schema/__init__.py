"""The two documents that everything turns on: what people write (`desired`) and what a host applies (`plan`)."""
