"""What an author runs against a driver of installer kind `exec`: `towpath-agent driver test PATH`.

The driver is run for real, on temporary folders, and is judged by what lies in them afterwards. What the suite cannot
see it cannot judge: the driver must be told, by an option that holds `{outside}`, to work in the suite's folder.
"""
