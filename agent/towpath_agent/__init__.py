"""The agent: pulls what its host should run, installs it, proves it by probes, reports, or goes back by itself.

Layers, top to bottom: `cli`, `daemon` → `runner` → installers | services | probes | transport | store | journal | trust
(independent of each other) → `engine` (decides, does no I/O) and `system` (the only place that touches files, processes
and the clock).
"""
