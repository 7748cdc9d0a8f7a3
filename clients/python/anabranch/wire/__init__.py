"""The types that go over the wire, made from the contracts of the server."""
