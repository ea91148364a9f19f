"""The two kinds of documents: `desired` is what people write, `plan` is what a host applies."""
