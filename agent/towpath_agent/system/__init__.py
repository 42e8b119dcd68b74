"""The only part of the agent that touches files, processes and the clock.

Everything above gets these as parameters, so that a test can put a simulated clock, a failing disk or a recorder in
their place. Nothing here knows what a release is.
"""
