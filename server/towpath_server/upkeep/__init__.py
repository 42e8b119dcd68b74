"""Looking after a server's folder: backup, restore, upgrade, and what is wrong with it.

Rules: these work with the server running or stopped, but for `restore` and `migrate`, which need it stopped; each
checks all that it can before it changes anything; nothing that it writes can be read by others.
"""
