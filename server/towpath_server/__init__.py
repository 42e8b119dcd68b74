"""The server: says who runs what now, among releases that others signed. See ARCHITECTURE.md for its layers."""
