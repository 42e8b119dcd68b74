"""The shell around the engine: journal, act, observe, step. One thread owns everything here."""
