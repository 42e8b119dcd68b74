"""Apps to release, a demo, and the fleets of real processes on loopback that demo, benches and tests share."""
