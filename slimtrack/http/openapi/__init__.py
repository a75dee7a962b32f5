"""The API described: an OpenAPI 3.1 document for programs, and its page for people."""
